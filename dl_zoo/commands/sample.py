"""`dl-zoo sample PATH`: what a trained model makes up, a text (`sample_text`), pictures, points (`sample_pictures`)."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dl_zoo.commands import sample_pictures, sample_text
from dl_zoo.commands.arguments import Parser, add_trust, obey_trust
from dl_zoo.errors import UserError

EXAMPLES = """examples
  dl-zoo sample zoo:gpt_char-tinyshakespeare --prompt "ROMEO:"
  dl-zoo sample runs/gpt_char-python_docs/<stamp> --prompt "The with statement" --temperature 0
  dl-zoo sample runs/vae-mnist/<stamp> --n 64 --seed 0
  dl-zoo sample runs/vae-mnist/<stamp> --interpolate --out between
  dl-zoo sample runs/vae-mnist/<stamp> --classes 0,1,2 --n 30

A text appears as it is drawn. Equal seeds give equal texts on one device. Of a text
longer than the net's context the net sees the end.

Of a run that makes pictures or points up (vae, gan, diffusion) a picture of all samples
is written, and a PNG of each, or a CSV of points: to the run folder's samples/, or to
the folder that --out names. Nothing is overwritten. Equal seeds give equal samples.
"""
OF_TEXTS = {"prompt": None, "length": 500, "temperature": 0.8, "top_k": None}  # options, and what they are by default
OF_PICTURES = {"n": 64, "out": None, "classes": None, "interpolate": False}


def main(argv: list[str]) -> int:
    args = parsed(argv)
    obey_trust(args.trust)
    texts, pictures = (typed(args, options) for options in (OF_TEXTS, OF_PICTURES))
    sample_text.check_numbers(**{k: v for k, v in (OF_TEXTS | texts).items() if k != "prompt"})
    sample_pictures.check_numbers((OF_PICTURES | pictures)["n"], args.interpolate)
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed {args.seed}: must be from 0 to 2^63 - 1")
    from dl_zoo import trained

    facts = trained.facts(args.path, args.checkpoint)  # a bad path is answered before Lightning is imported
    if facts.get("vocabulary"):
        refuse(pictures, f"for runs that make pictures up, and {args.path} is of text")
        return sample_text.answer(args.path, **(OF_TEXTS | texts), seed=args.seed, checkpoint=args.checkpoint)
    run = trained.load(args.path, args.checkpoint)
    sample_pictures.require_generative(run, args.path)
    refuse(texts, f"for language models, and {args.path} makes up no text")
    return sample_pictures.answer(run, args.path, facts, seed=args.seed, **(OF_PICTURES | pictures))


def parsed(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "dl-zoo sample",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="What a trained model makes up: a text after a prompt, pictures, points.",
        epilog=EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("path", help="a run folder, a checkpoint, or zoo:NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--checkpoint", choices=["best", "last", "previous"], help="of a run folder; default: best")
    add_trust(parser)
    texts = parser.add_argument_group("of texts")
    texts.add_argument("--prompt", help="the text's beginning; every symbol must be one that the model knows")
    texts.add_argument("--length", type=int, help="how many tokens to write (500)")
    texts.add_argument(
        "--temperature", type=float, help="divides the scores: below 1 safer, above 1 wilder, 0 none (0.8)"
    )
    texts.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens; default: all")
    pictures = parser.add_argument_group("of pictures and points")
    pictures.add_argument("--n", type=int, help="how many (64)")
    pictures.add_argument("--out", type=Path, metavar="DIR", help="write there; default: samples/ in the run folder")
    pictures.add_argument(
        "--class",
        "--classes",
        dest="classes",
        metavar="A,B",
        help="of these classes in turn; default: all that it knows",
    )
    pictures.add_argument(
        "--interpolate", action="store_true", help=f"ways from sample to sample, {sample_pictures.STEPS} steps each"
    )
    return parser.parse_args(argv)


def typed(args: argparse.Namespace, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that stand on the command line."""
    return {name: value for name in options if (value := getattr(args, name)) is not None and value is not False}


def refuse(given: Mapping[str, Any], why: str) -> None:
    """UserError where options were typed that say nothing to this model."""
    if given:
        names = ", ".join("--class" if name == "classes" else f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{names}: {why}; leave it out")
