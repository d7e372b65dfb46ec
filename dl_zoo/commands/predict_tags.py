"""`dl-zoo predict` of taggers: each line is a sentence, its words between blanks, and is told as word/TAG word/TAG.

Words are looked up as in training, by the vocabulary that the checkpoint carries; one that it lacks is known by its
spelling. A sentence of any length goes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_zoo.commands import predict
from dl_zoo.commands.predict_text import BATCH, Text, names_of
from dl_zoo.errors import UserError


def answer(run: Any, texts: Sequence[Text], output: Path | None, facts: Mapping[str, Any]) -> None:
    if not any(line.split() for text in texts for line in text.lines):
        raise UserError("none of the lines holds text; nothing is predicted")
    names = [] if output is None else names_of([text.path for text in texts], output, "", "tags")
    tagged = iter(tags(run.task, facts["vocabulary"], [line.split() for text in texts for line in text.lines]))
    results = ["".join(f"{next(tagged)}\n" for _ in text.lines) for text in texts]
    if output is None:
        print("".join(results), end="")
        return
    for file in predict.save(output, {name: each.encode() for name, each in zip(names, results, strict=True)}):
        print(f"written      {file}")


def tags(task: Any, vocabulary: Mapping[str, Any], sentences: Sequence[Sequence[str]]) -> list[str]:
    """One line each, in their order; of a sentence without words an empty one. UserError: a damaged vocabulary."""
    import torch

    from dl_zoo.data.tagged import Lexicon, rows

    lexicon = Lexicon.restored(vocabulary)
    task.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    order = sorted((place for place, words in enumerate(sentences) if words), key=lambda place: len(sentences[place]))
    lines = [""] * len(sentences)
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        every = rows([(sentences[place], [""] * len(sentences[place])) for place in some], lexicon)
        inputs, _ = every.taken(torch.arange(len(some)))
        with torch.inference_mode():
            logits, _ = task.net(*inputs.to(task.device))  # (B, T, K)
        for place, row in zip(some, logits.argmax(-1).tolist(), strict=True):
            pairs = zip(sentences[place], row, strict=False)  # behind the sentence is padding
            lines[place] = " ".join(f"{word}/{lexicon.tags[tag]}" for word, tag in pairs)
    return lines
