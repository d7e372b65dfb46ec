"""`dl-zoo sample` of a language model: it goes on with a text, token by token."""

import inspect
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.errors import UserError

BEHIND = 16  # tokens that are decoded along with a new one: more than any character has bytes


def answer(
    path: str, prompt: str | None, length: int, temperature: float, top_k: int | None, seed: int, checkpoint: str | None
) -> int:
    for piece in text(path, prompt, length, temperature, top_k, seed, checkpoint):
        print(piece, end="", flush=True)
    print()
    return 0


def check_numbers(length: int, temperature: float, top_k: int | None) -> None:
    if length < 1:
        raise UserError(f"--length {length}: must be at least 1")
    if not 0 <= temperature < math.inf:
        raise UserError(f"--temperature {temperature}: must be at least 0; 0 takes the likeliest token each time")
    if top_k is not None and top_k < 1:
        raise UserError(f"--top-k {top_k}: must be at least 1; leave it out to draw among all tokens")


def text(
    path: str | Path,
    prompt: str | None,
    length: int = 500,
    temperature: float = 0.8,
    top_k: int | None = None,
    seed: int = 0,
    checkpoint: str | None = None,
) -> Iterator[str]:
    """The prompt, then what the model writes after it, piece by piece: each is one token or more, in whole characters.

    Raises:
        UserError: before the first piece; as `load_run`, a run that is no language model, and a prompt that is not
            there or holds what the vocabulary lacks.
    """
    from dl_zoo import trained

    facts = trained.facts(path, checkpoint)  # a bad path is answered before Lightning is imported
    import torch

    from dl_zoo.decoding import continued
    from dl_zoo.stepwise import Stepwise
    from dl_zoo.tasks.language_modelling import LanguageModelling

    run = trained.load(path, checkpoint)
    if not isinstance(run.task, LanguageModelling):
        raise UserError(f"{path}: its task is no language modelling; sample knows no other models of text")
    if "state" not in inspect.signature(run.net.forward).parameters:
        raise UserError(f"{path}: this net cannot go on from where it stands; model=char_lstm and gpt_char can")
    words = vocabulary(facts, path)
    ids = encoded(words, prompt)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = run.net.to(device).eval()
    own = torch.Generator(device).manual_seed(seed)
    tokens = torch.tensor([ids], device=device)  # (1, P)
    drawn = continued(Stepwise(net), tokens, length, temperature=temperature, top_k=top_k, generator=own)
    yield str(prompt)
    yield from streamed(words, ids, (int(token) for token in drawn))


def vocabulary(facts: dict[str, Any], path: str | Path) -> Any:
    """The one that the checkpoint carries."""
    from dl_zoo.data.vocabulary import restored

    plain = facts.get("vocabulary")
    if not plain:
        raise UserError(f"{path}: it carries no vocabulary, so its tokens have no text")
    try:
        words = restored(plain)
        if len(words) != facts["dims"]["vocab_size"]:
            raise ValueError(f"it has {len(words)} symbols, and the net {facts['dims']['vocab_size']}")
        return words
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: its vocabulary cannot be read: {' '.join(str(error).split())}") from error


def encoded(words: Any, prompt: str | None) -> list[int]:
    if not prompt:
        raise UserError('a text needs a beginning: --prompt "ROMEO:"')
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"--prompt: character {error.start + 1} is no text; type it in UTF-8") from error
    try:
        ids: list[int] = words.encode(prompt)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from error
    if words.unk is not None and words.unk in ids:
        strange = [word for word in prompt.split() if words.unk in words.encode(word)]
        raise UserError(f"--prompt: {', '.join(strange)}: not in this vocabulary; use other words")
    if not ids:
        raise UserError(f"--prompt {prompt!r}: this vocabulary makes no token of it; write more")
    return ids


def streamed(words: Any, begun: Sequence[int], ids: Iterable[int]) -> Iterator[str]:
    """What each id adds to the text, whole characters only: a token may end in the midst of one's bytes."""
    tail = list(begun)[-BEHIND:]
    before = words.decode(tail)
    for each in ids:
        tail.append(each)
        now = words.decode(tail)
        if now.endswith("\ufffd") and len(tail) < 2 * BEHIND:
            continue
        yield now[len(before) :]
        tail = tail[-BEHIND:]
        before = words.decode(tail)
    yield words.decode(tail)[len(before) :]
