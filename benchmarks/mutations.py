"""Break the judge in every way that tests/mutations.yaml lists, and write which cases notice it: docs/mutations.md.

python benchmarks/mutations.py
"""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent


def page() -> str:
    sys.path.insert(0, str(ROOT / "tests"))
    from tables import rows
    from test_judge import MUTATIONS, mutated, unlike

    lines = []
    for name, mutation in MUTATIONS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noticed = unlike(mutated(mutation["in"], mutation["old"], mutation["new"]))
        lines.append([name, f"`{mutation['in']}.py`", str(len(noticed)), "; ".join(noticed[:3])])
    caught = sum(line[2] != "0" for line in lines)
    return "\n".join(
        [
            "# The judge, broken",
            "",
            f"{len(lines)} mutations of the judge, its statistics and its reading of cards (`tests/mutations.yaml`);"
            f" {caught} of them",
            "make cases of known verdict go wrong. `tests/test_judge.py` applies each one and fails when none notices.",
            "",
            rows(["what is broken", "where", "cases that notice", "the first of them"], lines),
            "",
        ]
    )


if __name__ == "__main__":
    (ROOT / "docs" / "mutations.md").write_text(page(), encoding="utf-8")
