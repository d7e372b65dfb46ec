"""Write RESULTS.md and the tables of README and docs/ from cards and results/: python benchmarks/tables.py.

No number is typed.

A table stands between `<!-- table: name -->` and `<!-- end -->`; a test checks that pages are as this writes them.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dl_zoo import refusals
from dl_zoo.claims import report
from dl_zoo.options import names

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"


def rows(header: list[str], lines: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines]])


def load(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def models() -> str:
    lines = []
    for path in sorted((ROOT / "configs" / "model").glob("*.yaml")):
        card = OmegaConf.load(path).card
        lines.append([f"`{path.stem}`", f"{card.parameters:,}", str(card.task), str(card.paper)])
    return rows(["model", "parameters", "task", "paper"], lines)


def groups() -> str:
    """What can be picked, from the folder of YAMLs; a loss is a value of the task's."""
    order = ["model", "data", "optimizer", "scheduler", "initializer", "regularizer", "probe", "trainer", "logger"]
    order += ["debug"]
    lines = [[f"`{group}=`", ", ".join(f"`{name}`" for name in names(group) if name != "none")] for group in order]
    lines.insert(2, ["`task.loss=`", ", ".join(f"`{name}`" for name in refusals.LOSSES)])
    return rows(["group", "options"], lines)


def accuracy() -> str:
    lines = []
    for name in ("accuracy", "accuracy.cuda"):
        for case in load(name).values():
            metric = case.get("metric", "error")
            mean, std, seeds = case[f"mean_test_{metric}"], case[f"std_test_{metric}"], len(case["runs"])
            seconds = sorted(run["seconds"] for run in case["runs"])[seeds // 2]
            verdict = "" if case["holds"] is None else f"{case['criterion']}: {'holds' if case['holds'] else 'missed'}"
            told = (lambda x: f"{100 * x:.2f}") if metric == "error" else (lambda x: f"{x:.4f}")
            spread = "" if std is None else f" ± {told(std)}"
            measured = f"{told(mean)}{' %' if metric == 'error' else ''}{spread} ({seeds} seeds)"
            lines.append(
                [
                    case["what"],
                    measured if metric == "error" else f"{metric} {measured}",
                    verdict,
                    f"{seconds:.0f} s on {case['device']}",
                ]
            )
    return rows(["what", "test error", "criterion", "a run takes"], lines)


def made_up() -> str:
    """The generative weights that ship, by the measures of their runs on the test set."""
    names = ("fid_lenet", "fid_floor", "is_lenet", "precision", "recall", "classes", "confident", "nearest")
    lines = []
    for path in sorted((ROOT / "weights").glob("*.json")):
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        if "test/fid_lenet" in metrics:
            lines.append([f"`zoo:{path.stem}`", *(f"{metrics[f'test/{name}']:.4g}" for name in names)])
    return rows(["weights", *(f"`{name}`" for name in names)], lines)


def texts() -> str:
    lines = []
    for case in load("text").values():
        verdict = f"{case['criterion']}: {'holds' if case['holds'] else 'missed'}"
        cores = f"{case['threads']} core{'s' * (case['threads'] > 1)} of {case['device']}"
        takes = f"{case['seconds'] / 60:.0f} min on {cores}, {case['precision']}"
        lines.append([case["what"], f"{case['metric']} {case['value']:.3f}", verdict, takes])
    return rows(["what", "reached", "criterion", "the run takes"], lines)


def text_page() -> str:
    """docs/text.md, whole: what these nets wrote."""
    parts = ["# What our nets write", ""]
    parts += [
        "Written by `make tables` from `results/benchmarks/text.json`; `python benchmarks/text.py` trains the nets."
    ]
    for name, case in load("text").items():
        parts += ["", f"## {case['what']}", "", f"`{case['command']}` (seed {case['seed']}):"]
        parts += [f"{case['metric']} {case['value']:.3f}."]
        if "written" in case:
            parts += [
                "",
                "Begun with `ROMEO:`; drawn from the 50 likeliest characters at temperature 0.8, with seed 0:",
                "",
                "```text",
                case["written"],
                "```",
            ]
            continue
        parts += [f"{case['signature']}.", "", "Sentences of our own (the vocabulary has no capitals):", ""]
        parts += [rows(["German", "what the net makes of it"], [[*pair] for pair in case["ours"].items()]), ""]
        parts += ["Where each word of the first translation looks in its source, a panel a head of the last layer:", ""]
        parts += ["![Attention of the decoder's last layer to the source](attention-cross.png)", ""]
        parts += ["The encoder's last layer on the same sentence:", ""]
        parts += ["![Self-attention of the encoder's last layer](attention-encoder.png)", ""]
        parts += [
            "The first sentences of the test set, as the net translates them. Source and reference are the dataset's,"
        ]
        parts += [f"and `python benchmarks/text.py --beside {name}` prints the three side by side.", ""]
        parts += [f"{number}. {line}" for number, line in enumerate(case["first_of_test"], 1)]
    return "\n".join([*parts, ""])


def parity_page() -> str:
    """docs/parity.md, whole: how far our nets are from others' with the same weights."""
    found = list(load("parity").values())
    ran = [row for row in found if "outputs" in row]
    placed = [row for row in found if "tensors" in row]
    rest = [row for row in found if "why" in row]
    of = {kind: [row for row in ran if row["dtype"] == kind] for kind in ("float32", "float64")}
    limits = " and ".join(f"{rows_of[0]['limit']:g} in {kind}" for kind, rows_of in of.items() if rows_of)
    equal = sum(row["outputs"] == row["gradients"] == 0 for row in ran)
    made_with = sorted({f"{name} {row[name]}" for row in found for name in VERSIONS if name in row})
    made_by = sorted({f"{row['commit']} on {row['date']}" for row in found if "commit" in row})
    parts = [
        "# With the same weights, the same answers",
        "",
        "Written by `make tables` from `results/benchmarks/parity.json`; `python benchmarks/parity.py` measures.",
        "",
        "Their net gets random weights, none of them 0 or 1. Ours reads them from a file by `weights=`, without a map",
        "(torch's own layers, which come in no such file, are renamed). Both see the same random inputs, in evaluation",
        "mode and float32 unless a row says otherwise, on one thread of a CPU. *Outputs*: the largest difference as a",
        "part of the largest output. *Gradients*, of the sum of all outputs (of BERT: at words, not at padding) times",
        "random numbers: of each parameter the largest difference as a part of its largest gradient, and of these the",
        "largest. A bias of keys has none, since softmax drops it, and is measured by its weights' largest.",
        "",
        "What `dl_zoo.from_scratch` writes out gets the same tensors as torch's function, all of which count as",
        "parameters here; theirs goes back by autograd, ours by the gradients that are written there by hand. Of an",
        "optimizer: what a small net answers after 100 steps, and the gradients of that.",
        "",
        f"A row holds where both are at most {limits}. {sum(row['holds'] for row in ran)} of {len(ran)} hold,",
        f"and {equal} are equal to the bit.",
        "",
        rows(
            ["ours", "against", "parameters", "outputs", "gradients", "holds"],
            [[*who(row), *(f"{row[each]:.1e}" if row[each] else "0" for each in SIDES), held(row)] for row in ran],
        ),
    ]
    if placed:
        parts += ["", "Larger ones by names and shapes alone: every tensor of theirs is one of ours.", ""]
        header = ["ours", "against", "parameters", "tensors", "holds"]
        parts += [rows(header, [[*who(row), str(row["tensors"]), held(row)] for row in placed])]
    if rest:
        parts += ["", "Without a number:", ""]
        parts += [f"- `{row['ours']}` against {row['other']}: {row['why']}" for row in rest]
    return "\n".join([*parts, "", f"{', '.join(made_with)}; commit {', '.join(made_by)}.", ""])


VERSIONS, SIDES = ("torch", "torchvision", "transformers"), ("outputs", "gradients")


def who(row: dict[str, Any]) -> list[str]:
    return [f"`{row['ours']}`", row["other"], f"{row['parameters']:,}"]


def held(row: dict[str, Any]) -> str:
    return "yes" if row["holds"] else "**no**"


def diagnostics() -> str:
    lines = []
    for case, row in load("diagnostics")["cases"].items():
        each_50th = row["extra_ms"] / 50 / row["step_ms"]
        lines.append([case, f"{row['step_ms']:.1f}", f"{row['extra_ms']:+.1f}", f"{100 * each_50th:.1f} %"])
    return rows(["net and batch", "a step, ms", "a recorded step, ms more", "at every 50th step"], lines)


def overhead() -> str:
    lines = []
    for name in ("loop_overhead", "loop_overhead.vae", "loop_overhead.passive", "loop_overhead.cuda"):
        result = load(name)
        how = ", OMP_WAIT_POLICY=PASSIVE" if name.endswith("passive") else ""
        for case, row in result.get("cases", {}).items():
            extra = f"{row['overhead_ms']:+.2f} ({row['overhead_ms_low']:+.2f} to {row['overhead_ms_high']:+.2f})"
            lines.append([case, f"{row['by_hand_ms']:.2f}", f"{row['ours_ms']:.2f}", extra, result["device"] + how])
    result = load("recurrent-cpu")
    for name, row in result.get("overhead", {}).items():
        extra = f"{row['added_ms']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        case = f"{name}, width 32, 20 steps, batch 32"
        lines.append([case, f"{row['by_hand_ms']:.2f}", f"{row['ours_ms']:.2f}", extra, result["device"]])
    return rows(["net and batch", "by hand, ms a step", "dl_zoo, ms a step", "difference, ms", "device"], lines)


def through_time() -> str:
    """A training step by the length of the sequence, of the recurrent nets."""
    lines, lengths = [], ("125", "500", "2000")
    for case, row in load("recurrent-cpu")["length"].items():
        lines.append([case, *(f"{row['ms'][length]:.1f}" for length in lengths), f"{row['exponent']:.2f}"])
    return rows(["net", *(f"{int(length):,} steps, ms" for length in lengths), "grows as length to the"], lines)


def gates() -> str:
    lines = [[case, *compared(row)] for case, row in load("recurrent-cpu")["gates"].items()]
    return rows(["100 steps, batch 32", "GRU, ms", "LSTM, ms", "ratio, 95 % interval"], lines)


def against_torchvision() -> str:
    lines = []
    for name in ("models-cpu", "models-cuda"):
        result = load(name)
        for case, row in result.get("cases", {}).items():
            for kind in ("step", "inference"):
                lines.append([f"{case}, {kind}", *compared(row[kind]), result["device"]])
    return rows(["net", "ours, ms", "torchvision's, ms", "ratio, 95 % interval", "device"], lines)


def compared(row: dict[str, float]) -> list[str]:
    """Of a pair: milliseconds of both sides and their ratio."""
    ratio = f"{row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return [*(f"{row[f'{side}_ms']:.2f}" for side in ("ours", "other")), ratio]


def attention() -> str:
    lines = []
    for name in ("attention-cpu", "attention-bfloat16-cpu", "attention-cuda", "attention-bfloat16-cuda"):
        result = load(name)
        for case, row in result.get("cases", {}).items():
            lines.append([f"{case}, step", *compared(row), result["device"]])
    return rows(["layer or net", "ours, ms", "other, ms", "ratio, 95 % interval", "device"], lines)


def refused() -> str:
    """docs/refusals.md, whole: a row for all options that are refused beside the same others for one reason."""
    found, total = refusals.table(), sum(1 for _ in refusals.pairs())
    merged: dict[tuple[str, str, str], list[str]] = {}
    for (one, other), reason in found.items():
        group, _, name = one.partition("=")
        words = re.sub(rf"\b{name}\b", "...", reason)
        merged.setdefault((group, other, words), []).append(name)
    both: dict[tuple[str, str, str], list[str]] = {}
    for (group, other, reason), ones in merged.items():
        beside, _, name = other.partition("=")
        one = f"`{group}=` " + ", ".join(f"`{each}`" for each in ones)
        both.setdefault((one, beside, re.sub(rf"={name}\b", "=...", reason)), []).append(name)
    lines = [
        [one, f"`{beside}=` " + ", ".join(f"`{each}`" for each in others), reason]
        for (one, beside, reason), others in both.items()
    ]
    return "\n".join(
        [
            "# What does not go together",
            "",
            f"{len(found):,} of {total:,} pairs of options are refused, before anything is built."
            " Written by `make tables`",
            "from the YAMLs alone (`dl_zoo/refusals.py`); a test compares it with what composing says.",
            "",
            rows(["one of", "beside", "what is said"], lines),
            "",
        ]
    )


def claims() -> str:
    """A view of RESULTS.md."""
    return report.summary()


TABLES = {
    "claims": claims,
    "models": models,
    "groups": groups,
    "diagnostics": diagnostics,
    "accuracy": accuracy,
    "made_up": made_up,
    "texts": texts,
    "overhead": overhead,
    "through_time": through_time,
    "gates": gates,
    "torchvision": against_torchvision,
    "attention": attention,
}


def pages() -> list[Path]:
    """Those written by hand, which may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written(text: str) -> str:
    """The text with each marked table as it is now."""

    def fresh(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]]()}\n{match[3]}"

    return re.sub(r"(<!-- table: (\w+) -->)\n.*?(<!-- end -->)", fresh, text, flags=re.DOTALL)


if __name__ == "__main__":
    os.chdir(ROOT)  # where results/ is
    for page in pages():
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "refusals.md").write_text(refused(), encoding="utf-8")
    (ROOT / "docs" / "text.md").write_text(text_page(), encoding="utf-8")
    (ROOT / "docs" / "parity.md").write_text(parity_page(), encoding="utf-8")
    (ROOT / "RESULTS.md").write_text(report.results_page(), encoding="utf-8")
