"""`dl-zoo completion bash|zsh|fish`: what a shell needs to complete commands, groups, options, keys and claims.

    eval "$(dl-zoo completion bash)"        in ~/.bashrc; zsh likewise
    dl-zoo completion fish | source         in fish's config

The shell hands what was typed so far to `dl-zoo completion words`, which answers from the YAMLs: a model or a claim
that is new is there at once, also one of `--config-dir`.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from dl_zoo.commands.arguments import Parser
from dl_zoo.options import groups, names

COMPOSED = ("train", "check", "find-lr")  # take Hydra's words
OF_MODELS = ("info", "models")
OF_CLAIMS = ("reproduce", "judge", "claims")
OF_TIERS = ("smoke", "cpu", "long", "cuda")
SHELLS = {
    "bash": """_dl_zoo() {
  local typed="${COMP_LINE:0:COMP_POINT}"
  local word="${typed##* }"
  local IFS=$'\\n'
  COMPREPLY=($(dl-zoo completion words -- "$typed" 2>/dev/null))
  if [[ ${#COMPREPLY[@]} -eq 0 ]]; then COMPREPLY=($(compgen -f -- "$word")); return; fi
  if [[ $word != [\\'\\"]* && $word == *[=:]* ]]; then  # bash breaks words there, but not in quotes
    word="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$word"}")
  fi
  [[ ${COMPREPLY[0]} == *= || ${COMPREPLY[0]} == *[[]* ]] && compopt -o nospace
}
complete -F _dl_zoo dl-zoo""",
    "zsh": """_dl_zoo() {
  local -a found
  found=("${(@f)$(dl-zoo completion words -- "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
  if [[ -z ${found[1]} ]]; then _files; else compadd -U -S '' -- "${found[@]}"; fi
}
compdef _dl_zoo dl-zoo""",
    "fish": """complete -c dl-zoo -a '(dl-zoo completion words -- (commandline -cp) 2>/dev/null)'""",
}


def main(argv: list[str]) -> int:
    parser = Parser("dl-zoo completion", description="Print the lines that make a shell complete dl-zoo's words.")
    parser.add_argument(
        "shell", choices=[*SHELLS, "words"], help="words: what may follow LINE, which the shells ask for"
    )
    parser.add_argument("line", nargs="*", help="the line as it was typed up to the cursor")
    asked = parser.parse_args(argv)
    if asked.shell == "words":
        print("\n".join(words(" ".join(asked.line))))
    else:
        print(SHELLS[asked.shell])
    return 0


def words(line: str) -> list[str]:
    """What may stand in place of the line's last word.

    >>> words("dl-zoo repr")
    ['reproduce']
    >>> words("dl-zoo train 'scheduler=co")
    ['scheduler=cosine']
    """
    _, *before, last = split(line)
    return sorted({word for word in candidates(before, last) if word.startswith(last)})


def split(line: str) -> list[str]:
    """As a shell would, where the last word may be empty and its quotes open.

    >>> split("dl-zoo train 'regularizer=[l1]' 'model=vg"), split("dl-zoo train ")
    (['dl-zoo', 'train', 'regularizer=[l1]', 'model=vg'], ['dl-zoo', 'train', ''])
    """
    for end in ("|", "'|", '"|'):  # the first that closes what is open; the mark keeps a last word that is empty
        with suppress(ValueError):
            *before, last = shlex.split(f"{line}{end}")
            return [*before, last.removesuffix("|")]
    return [line, ""]


def candidates(before: Sequence[str], last: str) -> Iterator[str]:
    from dl_zoo.__main__ import COMMANDS

    if not before:
        yield from COMMANDS
    elif before[0] in COMPOSED:
        yield from of_run(before, last)
    elif before[0] == "reproduce":
        yield from (f"claim={id}" for id in names("claim"))
        yield from (f"tier={tier}" for tier in OF_TIERS)
    elif before[0] in OF_CLAIMS:
        yield from names("claim")
    elif before[0] in OF_MODELS:
        yield from names("model")
    elif before[0] == "completion":
        yield from SHELLS


def of_run(before: Sequence[str], last: str) -> Iterator[str]:
    """`group=option`, several with commas or in brackets, and the keys of the run as it is so far."""
    known = groups()
    if match := re.fullmatch(r"(\w+)=(\[?(?:\w+,)*)\w*", last):
        if match[1] in known:
            yield from (f"{match[1]}={match[2]}{name}" for name in [*names(match[1]), *own(before, match[1])])
        return
    yield from (f"{group}=" for group in known)
    yield from (f"{key}=" for key in keys(before))


def own(before: Sequence[str], group: str) -> list[str]:
    """Options of the folders that `--config-dir` names."""
    folders = [after for word, after in pairwise(before) if word in ("-cd", "--config-dir")]
    return [path.stem for folder in folders for path in Path(folder, group).glob("*.yaml")]


def keys(before: Sequence[str]) -> list[str]:
    """Dotted keys of the configuration that the words before compose; of the defaults where these are not sound."""
    from omegaconf import DictConfig, OmegaConf

    from dl_zoo.compose import compose
    from dl_zoo.errors import UserError

    try:
        cfg = compose([word for word in before[1:] if re.fullmatch(r"[\w.]+=.*", word)])
    except UserError:
        cfg = compose([])

    def under(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in map(str, node):
            yield f"{prefix}{key}"
            if OmegaConf.is_dict(node._get_node(key)) and not OmegaConf.is_missing(node, key):
                yield from under(node[key], f"{prefix}{key}.")

    hidden = ("_target_", "_partial_", "_recursive_", "card")
    return [key for key in under(cfg, "") if key.rpartition(".")[2] not in hidden]
