"""`dl-zoo <command>`, the same as `python -m dl_zoo <command>`: a thin file a command, and one place for errors."""

import importlib
import os
import sys
from collections.abc import Sequence

from dl_zoo.errors import UserError

SECTIONS = {
    "Train, and look at what came of it": {
        "train": "train a model on a dataset: dl-zoo train model=lenet5 data=digits",
        "check": "what is wrong with a run, and what it costs, before it runs: dl-zoo check model=lenet5",
        "evaluate": "measure a trained run again: dl-zoo evaluate runs/lenet5-digits/<stamp>",
        "compare": "what differs between runs, and what came of it: dl-zoo compare runs",
        "find-lr": "try learning rates over a few steps and suggest one: dl-zoo find-lr model=lenet5",
    },
    "Use a trained net": {
        "predict": "classes of pictures or texts, translations: dl-zoo predict runs/lenet5-digits/<stamp> pictures/",
        "sample": "what a trained model makes up, text or pictures: dl-zoo sample runs/vae-mnist/<stamp>",
        "export": "a trained net as a file for other programs: dl-zoo export runs/lenet5-digits/<stamp> --format onnx",
    },
    "Learn what there is": {
        "models": "list the models: dl-zoo models 'lenet*'",
        "info": "all about one model: dl-zoo info lenet5",
        "claims": "list the landmark claims, with cost and verdict: dl-zoo claims 'c08*'",
    },
    "Check the landmarks": {
        "reproduce": "run a claim and judge it: dl-zoo reproduce claim=c01_mlp_xor tier=cpu",
        "judge": "judge the stored results again, without training: dl-zoo judge",
    },
    "Keep house": {
        "clean": "delete old checkpoints of finished runs; only shows them without --yes: dl-zoo clean runs",
        "completion": 'let the Tab key complete all this: eval "$(dl-zoo completion bash)"',
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
HELP = """dl-zoo: a textbook of deep learning that runs

usage: dl-zoo <command> [arguments]      dl-zoo <command> --help

A first run, half a minute:  dl-zoo train experiment=lenet5_digits
Its curves and pictures:     tensorboard --logdir runs
""" + "".join(
    f"\n{title}:\n" + "".join(f"  {name:<10} {text}\n" for name, text in section.items())
    for title, section in SECTIONS.items()
)


def main(command: str | None = None) -> None:
    """Run one command and leave with its exit code: 0 done, 2 wrong use in one line, 130 and 143 interrupted."""
    arguments = sys.argv[1:] if command else sys.argv[2:]
    command = command or (sys.argv[1] if len(sys.argv) > 1 else "--help")
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported: no library draws bars into a file
    try:
        code = _call(command, arguments)
    except UserError as error:
        for line in error.lines:
            print(f"dl-zoo: {line}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("dl-zoo: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `dl-zoo models | head`
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _call(command: str, arguments: Sequence[str]) -> int:
    if command == "--version":
        import dl_zoo

        print(dl_zoo.__version__)
        return 0
    if command not in COMMANDS:
        from dl_zoo.options import nearest

        raise UserError(f"{command}: there is no such command; {nearest(command, COMMANDS)}")
    return importlib.import_module(f"dl_zoo.commands.{command.replace('-', '_')}").main(list(arguments))


if __name__ == "__main__":
    main()
