"""`dl-zoo judge [ids]`: judge stored results again, from their JSON alone. Neither torch nor training."""

import sys
from pathlib import Path

from dl_zoo.claims import provenance, result
from dl_zoo.claims.card import JUDGED
from dl_zoo.claims.judge import Judgement
from dl_zoo.commands.arguments import Parser
from dl_zoo.errors import UserError


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo judge",
        description="Judge stored results (results/claims/*.json) again. Exit code 3 when a claim is REFUTED or cannot "
        "be judged, or when a sabotage is not REFUTED; else 4 when one is INCONCLUSIVE. Stale means that code, "
        "configuration, card or torch are other than when the arms ran: the verdict stands, reproduce makes it anew.",
    )
    parser.add_argument("ids", nargs="*", help="claims; all that are stored")
    parser.add_argument("--tier", choices=JUDGED, help="only this tier")
    parser.add_argument("-v", "--verbose", action="store_true", help="every rule's finding")
    args = parser.parse_args(argv)
    codes = [_one(path, args.verbose) for path in result.stored(args.ids, args.tier)]
    if not codes:
        raise UserError(f"--tier {args.tier}: no such result is stored")
    return max(codes, key=[0, 4, 3].index)


def _one(path: Path, verbose: bool) -> int:
    try:
        content = result.read(path)
    except UserError as error:  # said, and counted as one that cannot be judged; the others are judged all the same
        print(f"{path.stem:<40} ERROR")
        print(f"dl-zoo: {error}", file=sys.stderr)
        return 3
    judgement = result.judged(content)
    reasons = provenance.stale(content)
    remarks = [f"sabotage {judgement.sabotage}", *([f"stale: other {', '.join(reasons)}"] if reasons else [])]
    print(f"{path.stem:<40} {judgement.words}  ({'; '.join(remarks)})")
    if verbose or judgement.verdict != "CONFIRMED":
        print("\n".join(f"    {finding.verdict}: {finding.words}" for finding in judgement.findings))
    if verbose or not judgement.proves_itself:
        for name, found in judgement.broken.items():
            print("\n".join(f"    with {name} broken, {each.verdict}: {each.words}" for each in found))
    return exit_code(judgement)


def exit_code(judgement: Judgement) -> int:
    """0 confirmed, 3 refuted or not judgeable or a sabotage that passes, 4 inconclusive."""
    if judgement.verdict in ("REFUTED", "ERROR") or not judgement.proves_itself:
        return 3
    return 4 if judgement.verdict == "INCONCLUSIVE" else 0
