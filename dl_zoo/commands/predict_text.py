"""`dl-zoo predict` of runs that read text: translations, line for line, and the classes of lines as CSV.

Of taggers `predict_tags` has the answers.

A text is encoded as the run's own were in evaluation: by the vocabulary that the checkpoint carries, cut where the
context ends. The dataset itself is not needed. Lines of similar length go through the net together.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_zoo.commands import predict
from dl_zoo.commands.files import shown_path, text_files
from dl_zoo.errors import UserError

TOKENS = 2048  # of a batch of sources, padding included
BATCH = 64  # lines that the net gets at once, at most
SHOWN = 3  # lines of each translation that are shown beside its file's name


@dataclass(frozen=True)
class Text:
    path: Path
    lines: list[str]  # without white space at their ends


def answer(
    path: str,
    files: Sequence[str],
    output: Path | None,
    top: int,
    checkpoint: str | None,
    facts: Mapping[str, Any],
) -> int:
    """Print, or write to the folder `output`, what the run makes of these files. Returns the exit code.

    Raises:
        UserError: as `read` and `load_run`; a run that neither translates nor tells texts apart; two files whose
            translations would have one name.
    """
    texts = [read(file, path) for file in text_files(files)]
    from dl_zoo import trained
    from dl_zoo.commands import predict_tags
    from dl_zoo.commands.sample_text import vocabulary
    from dl_zoo.tasks.translation import Translation

    if facts["vocabulary"].get("kind") == "tags":
        predict_tags.answer(trained.load(path, checkpoint), texts, output, facts)
        return 0
    words = vocabulary(dict(facts), path)
    run = trained.load(path, checkpoint)
    run.data.words = words
    if isinstance(run.task, Translation):
        _translate(run, texts, output, facts)
    else:
        _require_classifier(run, path)
        _classify(run, texts, output, top, facts)
    return 0


def _require_classifier(run: Any, path: str) -> None:
    from dl_zoo.tasks.classification import Classification
    from dl_zoo.tasks.language_modelling import LanguageModelling

    if isinstance(run.task, LanguageModelling):
        raise UserError(f"{path}: a language model, which neither translates nor classifies; see dl-zoo sample --help")
    if not isinstance(run.task, Classification) or run.task.embeds or not hasattr(run.data, "ids"):
        raise UserError(
            f"{path}: its task gives texts no classes; of runs that read text predict knows translators and classifiers"
        )


# ---- files ---------------------------------------------------------------------------------------------------------


def read(file: Path, path: str) -> Text:
    """UserError: a picture by its name, a file that cannot be read, or one that is not UTF-8."""
    from dl_zoo.data.decoding import SUFFIXES
    from dl_zoo.data.text_file import decoded
    from dl_zoo.data.vocabulary import in_lines

    name = shown_path(file)
    if file.suffix.lower() in SUFFIXES:
        raise UserError(f"{name}: is a picture by its name, and {path} reads text; name files of text")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or error}") from error
    return Text(file, [line.strip() for line in in_lines(decoded(content, name))])


def encoded(words: Any, texts: Sequence[Text]) -> list[list[int]]:
    """The ids of every line. UserError where a vocabulary of characters lacks one."""
    ids = []
    for text in texts:
        for number, line in enumerate(text.lines, 1):
            try:
                ids.append(words.encode(line))
            except UserError as error:
                raise UserError(f"{shown_path(text.path)}, line {number:,}: {error}") from error
    return ids


def warn_of_cut(lengths: Sequence[int], context: int | None) -> None:
    """One line where some of these lengths, in tokens with what is put around them, are beyond the context."""
    if context and (long := sum(length > context for length in lengths)):
        lines = "1 line is" if long == 1 else f"{long:,} lines are"
        print(f"dl-zoo: {lines} longer than the context of {context} tokens, and cut there", file=sys.stderr)


# ---- translations --------------------------------------------------------------------------------------------------


def _translate(run: Any, texts: Sequence[Text], output: Path | None, facts: Mapping[str, Any]) -> None:
    language = Path(str(getattr(run.data, "target", None) or "translated")).name
    source = str(getattr(run.data, "source", None) or "")
    names = [] if output is None else names_of([text.path for text in texts], output, source, language)
    ids, context = encoded(run.data.words, texts), (facts.get("dims") or {}).get("context")
    warn_of_cut([len(each) + 1 for each in ids], context)
    written = iter(translations(run.task, run.data.words, [each[: context and context - 1] for each in ids]))
    results = [[next(written) for _ in text.lines] for text in texts]
    if output is None:
        print("".join(f"{line}\n" for lines in results for line in lines), end="")
        return
    contents = {name: "".join(f"{line}\n" for line in lines) for name, lines in zip(names, results, strict=True)}
    files = predict.save(output, {name: content.encode() for name, content in contents.items()})
    for file, lines in zip(files, results, strict=True):
        print(f"written      {file} ({len(lines):,} line{'s' * (len(lines) != 1)})")
        print("".join(f"{'':13}{line}".rstrip() + "\n" for line in lines[:SHOWN]), end="")


def names_of(files: Sequence[Path], output: Path, source: str, language: str) -> list[str]:
    """Of the translations. UserError: one would overwrite another, or a file that is to be translated."""
    taken = {file.resolve(): file for file in files}
    names = []
    for file in files:
        stem = file.name.removesuffix(".txt")
        names.append(f"{stem.removesuffix(f'.{source}') or stem}.{language}.txt")
        place = (output / names[-1]).resolve()
        if other := taken.get(place):
            raise UserError(
                f"{shown_path(file)}: its translation would overwrite that of {shown_path(other)} or"
                f" the file itself, as {names[-1]}; name another --output, or one file at a time"
            )
        taken[place] = file
    return names


def translations(task: Any, words: Any, sources: Sequence[Sequence[int]]) -> list[str]:
    """One line each, in their order; of a source without ids an empty one. Beam and length penalty are the task's."""
    import torch

    from dl_zoo.data.pairs import cut_by_tokens, padded
    from dl_zoo.decoding import beam, greedy
    from dl_zoo.waiting import waiting

    task.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    order = sorted((place for place, ids in enumerate(sources) if ids), key=lambda place: len(sources[place]))
    lines = [""] * len(sources)
    parts = list(cut_by_tokens([len(sources[place]) + 1 for place in order], TOKENS, BATCH))
    for first, last in waiting(parts, "translating"):
        some = [[*sources[place], words.eos] for place in order[first:last]]
        source, lengths = padded(some).long().to(task.device), torch.tensor([len(each) for each in some])
        ends = {"bos": words.bos, "eos": words.eos, "limit": source.shape[1] + task.longer}
        if task.beam_width == 1:
            found = greedy(task.net, source, lengths, **ends)
        else:
            found = beam(task.net, source, lengths, width=task.beam_width, alpha=task.length_penalty, **ends)
        for place, ids in zip(order[first:last], found, strict=True):
            lines[place] = " ".join(words.decode(ids).splitlines())  # byte pairs can spell a line's end
    return lines


# ---- classes -------------------------------------------------------------------------------------------------------


def _classify(run: Any, texts: Sequence[Text], output: Path | None, top: int, facts: Mapping[str, Any]) -> None:
    ids = encoded(run.data.words, texts)
    around = sum(map(len, run.data.frame()))
    warn_of_cut([len(each) + around for each in ids], (facts.get("dims") or {}).get("context"))
    places = [(shown_path(text.path), str(number), line) for text in texts for number, line in _full(text)]
    if not places:
        raise UserError("none of the lines holds text; nothing is predicted")
    beliefs = classes(run, [line for _, _, line in places], facts.get("classes"))
    rows: list[predict.Row] = [
        ((name, number), names[:top], probabilities[:top])
        for (name, number, _), (names, probabilities) in zip(places, beliefs, strict=True)
    ]
    table = predict.as_csv(rows, ("path", "line"))
    if output is None:
        print(table, end="")
    else:
        print(f"written      {predict.save(output, {'predictions.csv': table.encode()})[0]}")


def _full(text: Text) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.lines, 1) if line)


def classes(
    run: Any, lines: Sequence[str], names: Sequence[Any] | None
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Of each line the names of all classes and their probabilities, the likeliest first."""
    import torch

    from dl_zoo.waiting import waiting

    task, data = run.task.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval(), run.data
    data.batch_size = BATCH
    order = sorted(range(len(lines)), key=lambda place: len(lines[place]))
    found: dict[int, Any] = {}
    for start in waiting(range(0, len(order), BATCH), "predicting"):
        some = order[start : start + BATCH]
        beliefs = predict.believed(task, data, data.given([lines[place] for place in some]), names)
        found |= dict(zip(some, beliefs, strict=True))
    return [found[place] for place in range(len(lines))]
