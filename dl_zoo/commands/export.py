"""`dl-zoo export PATH --format onnx`: a trained net as a file for other programs, checked against the net."""

import sys

from dl_zoo.commands.arguments import Parser, add_trust, obey_trust
from dl_zoo.errors import UserError

FORMATS = ("onnx", "torch_export", "safetensors")


def main(argv: list[str]) -> int:
    parser = Parser(
        "dl-zoo export",
        description="Write the net of a run as one file, and beside it FILE.json: input, classes, normalisation, "
        "metrics. The file is loaded again, and its logits must equal the net's.",
        allow_abbrev=False,
    )
    parser.add_argument("path", help="a run folder, a checkpoint, or zoo:NAME")
    parser.add_argument("--format", choices=FORMATS, required=True, help="onnx runs without torch, the others with it")
    parser.add_argument("--output", metavar="FILE", help="default: the run's name, in the run's folder")
    parser.add_argument("--batch", default="dynamic", help="items a call takes: dynamic (any number), or a number")
    parser.add_argument("--checkpoint", choices=["best", "last", "previous"], help="of a run folder; default: best")
    add_trust(parser)
    args = parser.parse_args(argv)
    obey_trust(args.trust)
    batch = _batch(args.batch)

    from dl_zoo.export import NotTheNet, export

    try:
        done = export(args.path, args.format, args.output, batch, args.checkpoint)
    except NotTheNet as error:
        print(f"dl-zoo: nothing was written: the file was made, but {error}; try another --format", file=sys.stderr)
        return 3
    print(f"written      {done.file}, {done.sidecar}")
    print(f"verified     its logits differ from the net's by {done.difference:.1e} of the largest at most")
    return 0


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--batch {text}: must be dynamic, or a whole number of at least 1")
    return int(text)
