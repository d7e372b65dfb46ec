"""`dl-zoo info NAME`: one model on one page: its card, what its file says, switches, layers, claims, how to run it."""

import ast
import re
from math import isqrt
from pathlib import Path
from typing import Any

import yaml

from dl_zoo.commands.arguments import Parser
from dl_zoo.errors import UserError
from dl_zoo.options import CONFIGS, names, nearest, read, resolve_model

NOISE = 100  # numbers that a GAN makes an item of, in all of them


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo info", description="All about one model: card, equations, switches, layers, claims.")
    parser.add_argument("name", help="a name of `dl-zoo models`, or another one that its card lists")
    name = resolve_model(parser.parse_args(argv).name)
    if name not in names("model"):
        raise UserError(f"{name}: there is no such model; {nearest(name, names('model'))}")
    print("\n".join([*_card(name), "", *head(name), "", *_switches(name), "", *_layers(name), "", *_uses(name)]))
    return 0


def _card(name: str) -> list[str]:
    card = read("model", name)["card"]
    others = f" (also {', '.join(card['names'])})" if card.get("names") else ""
    dims = ", ".join(f"{key} {value}" for key, value in card["dims"].items())
    rows = {"paper": card["paper"], "parameters": f"{card['parameters']:,}", "task": card["task"], "at": dims}
    rows |= {key: str(card[key]) for key in ("gradient", "weights") if key in card}
    return [f"{name}{others}", "", *(f"{key:<12} {value}" for key, value in rows.items())]


def head(name: str) -> list[str]:
    """What the model's file says before its code, read without importing it."""
    module, _, _ = str(read("model", name)["_target_"]).rpartition(".")
    path = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()


def _switches(name: str) -> list[str]:
    rows = [(f"model.{key}={value}", remark) for key, value, remark in switches(name)]
    width = max(len(text) for text, _ in rows)
    return ["switches", *(f"  {text:<{width}}  {remark}".rstrip() for text, remark in rows)]


def switches(name: str) -> list[tuple[str, str, str]]:
    """The net's arguments with their defaults, and what the YAML remarks on them."""
    remarks = _remarks(text_of("model", name))
    stated = {k: v for k, v in read("model", name).items() if not k.startswith("_") and k != "card"}
    return [(key, _plain(value), remarks.get(key, "")) for key, value in stated.items()]


def _remarks(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):.*?\s#\s*(.*)$", text, re.MULTILINE))


def _plain(value: Any) -> str:
    """As it is typed: YAML's words, without its line breaks."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip().replace(", ", ",")


def _layers(name: str) -> list[str]:
    from dl_zoo.plan import layer_table

    return layer_table(*on_meta(name))


def rows_of(name: str) -> list[Any]:
    """The rows of the layer table: name, kind, output shape for one item, parameters."""
    from dl_zoo.plan import layer_rows

    return layer_rows(*on_meta(name))


def on_meta(name: str) -> tuple[Any, Any]:
    """The net at its card's sizes and an input; so the largest one costs nothing."""
    import torch

    from dl_zoo.zoo import create_model

    with torch.device("meta"):
        return create_model(name), example(read("model", name)["card"])


def example(card: dict[str, Any]) -> Any:  # noqa: PLR0911
    """One item of the shape that a card tells of, on `meta`: ImageNet's for nets of a thousand classes."""
    import torch

    dims = card["dims"]
    if card["task"] == "diffusion":
        return torch.zeros(1, dims["features"], device="meta"), torch.ones(
            1, device="meta"
        )  # noisy points, their steps
    if "vocab_size" in dims:
        tokens = torch.zeros(1, 8, dtype=torch.int64, device="meta")
        translates = card["task"] == "translation"
        return (tokens, tokens, torch.tensor([8], device="cpu")) if translates else tokens
    if "channels" in dims and card["task"] != "gan":
        size = dims.get("image_size", 224 if dims.get("num_classes") == 1000 else 32)
        size = isqrt(dims["features"] // dims["channels"]) if "features" in dims else size
        frames = [dims["frames"]] if "frames" in dims else []
        return torch.zeros(1, dims["channels"], *frames, size, size, device="meta")
    if "samples" in dims:
        return torch.zeros(1, 1, dims["samples"], device="meta")
    if "words" in dims:
        words = torch.zeros(1, 8, dtype=torch.int64, device="meta")
        return words, words[:, :, None].expand(1, 8, 5)
    if "copies" in dims:  # of two numbers each
        return torch.zeros(1, dims["copies"], 2, device="meta")
    if "input_size" in dims:
        return torch.zeros(1, 8, dims["input_size"], device="meta")
    return torch.zeros(1, NOISE if card["task"] == "gan" else dims["features"], device="meta")


def uses(name: str) -> tuple[list[str], list[str]]:
    """Experiments that pick this model, and claims that rest on them."""
    recipes = [e for e in names("experiment") if f"override /model: {name}\n" in text_of("experiment", e)]
    words = "|".join([f"model={name}", *(f"experiment: {recipe}" for recipe in recipes)])
    return recipes, [claim for claim in names("claim") if re.search(rf"\b({words})\b", text_of("claim", claim))]


def _uses(name: str) -> list[str]:
    recipes, claims = uses(name)
    rows = [("experiments", [f"dl-zoo train experiment={each}" for each in recipes])]
    rows += [("claims", [f"dl-zoo reproduce claim={each}" for each in claims])]
    rows += [("train", [f"dl-zoo train model={name}"])]
    return [f"{title:<12} {line}" for title, lines in rows for line in lines]


def text_of(group: str, name: str) -> str:
    return (CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8")
