"""Pages that are made when the site is built: one a model, one a claim, and their indexes. mkdocs calls `on_files`.

Nothing here is typed by hand: what a page says comes from the model's file and card, the claim's card and results/.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import drawing  # noqa: E402

from dl_zoo.claims import card, report, result  # noqa: E402
from dl_zoo.commands import info  # noqa: E402
from dl_zoo.options import names, read  # noqa: E402

RESULTS = ROOT / "results"
PARTS = {  # of the article
    "1.2": "Foundations: neurons, losses, descent",
    "1.3": "Backpropagation",
    "1.4": "Optimizers, initialization, regularization",
    "1.5": "Convolutional networks",
    "1.6": "Recurrent networks",
    "1.7": "Attention and Transformers",
    "1.8": "Generative models",
}


def on_files(files: Files, config: Any) -> Files:
    verdicts = {id: of_claim(id) for id in card.ids()}
    made = {"models/index.md": models_index(), "claims/index.md": claims_index(verdicts)}
    made |= {f"models/{name}.md": model_page(name, verdicts) for name in names("model")}
    made |= {f"claims/{id}.md": claim_page(id, found) for id, found in verdicts.items()}
    made |= {f"notebooks/{path.stem}.md": notebook_page(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    for picture in sorted((RESULTS / "claims").glob("*.png")):
        files.append(File.generated(config, f"claims/{picture.name}", abs_src_path=str(picture)))
    return files


# ---- models --------------------------------------------------------------------------------------------------------


def models_index() -> str:
    cards = {name: read("model", name)["card"] for name in names("model")}
    lines = [
        [f"[{name}]({name}.md)", f"{known['parameters']:,}", known["task"], str(known["year"]), known["paper"]]
        for name, known in cards.items()
    ]
    table = report.table(["model", "parameters", "task", "year", "paper"], lines)
    return f"# Models\n\nEach is one readable file; `dl-zoo info NAME` prints the same page.\n\n{table}\n"


def model_page(name: str, verdicts: dict[str, Any]) -> str:
    known = read("model", name)["card"]
    rows = info.rows_of(name)
    experiments, claims = info.uses(name)
    also = f", also called {', '.join(known['names'])}" if known.get("names") else ""
    parts = [
        f"# {name}",
        f"{known['paper']}. {known['parameters']:,} parameters; task `{known['task']}`{also}.",
        *(_drawing(rows) if rows else []),
        *_docstring(name),
        "## Switches",
        report.table(["argument", "default", ""], info.switches(name)),
        *(_layers(rows) if rows else []),
        "## Fidelity",
        *_fidelity(name, known),
        "## Train it",
        "```bash\n"
        + "\n".join([*(f"dl-zoo train experiment={e}" for e in experiments), f"dl-zoo train model={name}"])
        + "\n```",
        f"## Configuration\n\n```yaml\n{info.text_of('model', name)}```",
    ]
    if claims:
        lines = [[f"[{id}](../claims/{id}.md)", card.stated(id)["claim"], verdict_of(verdicts[id])] for id in claims]
        parts += ["## Claims that rest on it", report.table(["claim", "", "verdict"], lines)]
    return "\n\n".join(parts) + "\n"


def _drawing(rows: list[Any]) -> list[str]:
    how = "One box a layer, as high as its maps are wide, as wide as it has channels; rest the pointer on one."
    return [drawing.svg(rows), how]


def _layers(rows: list[Any]) -> list[str]:
    lines = [[*map(str, row[:3]), f"{row[3]:,}"] for row in rows]
    return ["## Layers", report.table(["layer", "kind", "output", "parameters"], lines)]


def _docstring(name: str) -> list[str]:
    """What the file says, with its equations and tables as they stand; its first line is no heading."""
    return ["## What its file says", "\n".join(info.head(name))]


def _fidelity(name: str, known: dict[str, Any]) -> list[str]:
    rows = [
        row for row in json.loads((RESULTS / "benchmarks" / "parity.json").read_text()).values() if row["model"] == name
    ]
    told = [
        [row["ours"], row["other"], f"{row['outputs']:.1e}", f"{row['gradients']:.1e}"]
        if "outputs" in row
        else [row["ours"], row["other"], "every tensor by name and shape", ""]
        for row in rows
    ]
    parts = ["The number of parameters above is asserted by a test, at the paper's sizes."]
    if told:
        parts += [
            "With the same weights, the largest difference from others' (see [parity](../parity.md)):",
            report.table(["ours", "against", "outputs", "gradients"], told),
        ]
    if known.get("weights"):
        parts.append(f"Official weights: `weights=torchvision` reads `{known['weights']}`.")
    shipped = sorted(path.stem for path in (ROOT / "weights").glob(f"{name}-*.json"))
    if shipped:
        parts.append("Weights that ship: " + ", ".join(f"`weights=zoo:{each}`" for each in shipped) + ".")
    return parts


# ---- claims --------------------------------------------------------------------------------------------------------


def of_claim(id: str) -> list[dict[str, Any]]:
    """Its stored results, by tier."""
    return [
        result.read(path)
        for path in (RESULTS / "claims" / f"{id}.{tier}.json" for tier in card.JUDGED)
        if path.is_file()
    ]


def verdict_of(found: list[dict[str, Any]]) -> str:
    return report.verdict(found[0]) if found else report.NOT_RUN


def claims_index(verdicts: dict[str, Any]) -> str:
    by_part: dict[str, list[list[str]]] = defaultdict(list)
    for id, found in verdicts.items():
        stated = card.stated(id)
        part = ".".join(str(stated["article"]).split(".")[:2])
        by_part[part].append([f"[{id}]({id}.md)", stated["claim"], f"**{verdict_of(found)}**"])
    parts = [
        "# Claims",
        "Every landmark claim is an experiment with a rule, a verdict, and a sabotage that must be refuted.",
    ]
    for part in sorted(by_part):
        parts += [f"## {part} {PARTS.get(part, '')}".rstrip(), report.table(["id", "claim", "verdict"], by_part[part])]
    return "\n\n".join(parts) + "\n"


def claim_page(id: str, found: list[dict[str, Any]]) -> str:
    stated = found[0]["card"] if found else card.stated(id)
    tier = "cpu" if card.has_tier(card.stated(id), "cpu") else "long"
    parts = [
        f"# {id}",
        f"**{stated['claim']}**",
        f"Source: {stated['source']} (article {stated['article']}). Reported there: {stated['reported']}.",
    ]
    parts += [f"Departs from it: {stated['departs']}."] if stated["departs"] else []
    for content in found:
        parts += _verdict(content)
    parts += [] if found else [f"## {report.NOT_RUN}"]
    parts += [f"## Run it again\n\n```bash\ndl-zoo reproduce claim={id} tier={tier}\n```"]
    text = (ROOT / "configs" / "claim" / f"{id}.yaml").read_text(encoding="utf-8")
    return "\n\n".join([*parts, f"## The card\n\n```yaml\n{text}```"]) + "\n"


def _verdict(content: dict[str, Any]) -> list[str]:
    judged = result.judged(content)
    name = f"{content['id']}.{content['tier']}"
    lines = [[finding.verdict, finding.words] for finding in judged.findings]
    for arm, findings in judged.broken.items():
        lines += [[f"{f.verdict}, {arm} broken", f.words] for f in findings if f.verdict == "REFUTED"]
    parts = [f"## {report.verdict(content)} on tier {content['tier']}", report.table(["rule", "measured"], lines)]
    if (RESULTS / "claims" / f"{name}.png").is_file():
        parts.append(f"![{content['card']['claim']}]({name}.png)")
    made = f"{report.cost(content)}; {content['date']}, commit {content['commit']}"
    return [*parts, _by_seed(content), f"{made}. Every value: `results/claims/{name}.json`."]


def _by_seed(content: dict[str, Any]) -> str:
    """What the rules look at, seed by seed."""
    asked = list(dict.fromkeys(pair for rule in content["card"]["rule"] for pair in card.asked_by(rule)))
    seeds = [run["seed"] for run in next(iter(content["arms"].values()))["runs"]]
    lines = []
    for arm, metric in asked:
        runs = content["arms"][arm]["runs"]
        values = [run["metrics"].get(metric) if run["status"] == "finished" else run["status"] for run in runs]
        lines.append([arm, f"`{metric}`", *(f"{v:.4g}" if isinstance(v, int | float) else str(v) for v in values)])
    return report.table(["arm", "metric", *(f"seed {seed}" for seed in seeds)], lines)


# ---- notebooks -----------------------------------------------------------------------------------------------------


def notebook_page(path: Path) -> str:
    """A notebook as it was executed: its texts, code and what that printed or drew."""
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text") or ([] if "image/png" in data else data.get("text/plain", [])))
            if "text/markdown" in data:
                parts.append("".join(data["text/markdown"]))
            elif "image/png" in data:
                parts.append(
                    f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}" alt="what the cell drew">'
                )
            elif text.strip():
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
