"""`predict` of runs that read text: a line for each line, the classes of evaluate, and one line for each misuse."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import Said, one_line
from conftest import trained as of_pictures
from torch import Tensor

from dl_zoo.commands import predict_text
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.compose import compose
from dl_zoo.data.movie_reviews import MovieReviews
from dl_zoo.data.vocabulary import PAD, Words, restored
from dl_zoo.decoding import beam
from dl_zoo.models.transformer import Transformer
from dl_zoo.run import Result, run
from dl_zoo.zoo import load_run

GERMAN = ["Ein Mann geht .", "Zwei Hunde laufen im Schnee .", "Eine Frau liest .", "Ein Hund schläft ."] * 5
ENGLISH = ["A man walks .", "Two dogs run in the snow .", "A woman reads .", "A dog sleeps ."] * 5
LINES = ["Ein Mann", "Eine Frau .", "Hund", "Schnee ."]  # short enough
SAME = "a b c d ."  # in both languages
CONTEXT = 12
SMALL = ["trainer=cpu", "trainer.max_epochs=0", "logger=none", "pictures=false", f"data.context={CONTEXT}"]


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From German to English, of pairs that are gone afterwards; it has not learnt, and says much."""
    folder = tmp_path_factory.mktemp("translator")
    pairs = [folder / f"{split}.{language}" for split in ("train", "val", "test") for language in ("de", "en")]
    for file in pairs:
        lines = GERMAN if file.suffix == ".de" else ENGLISH
        file.write_text("\n".join([SAME] * 3 if file.stem == "val" else lines), encoding="utf-8")
    words = ["model=transformer_small", "data=multi30k_de_en", f"data.path={folder}", "data.merges=20", *SMALL]
    words += ["model.width=16", "model.heads=2", "model.hidden=16", "model.depth=1", f"run_dir={folder / 'run'}"]
    result = run(compose(words), quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        copy(patch)
        evaluate(result.folder, "val")
    for file in pairs:
        file.unlink()
    return result.folder


@pytest.fixture(scope="module")
def critic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[dict[str, str]]]:
    """The run, the lines of its test split, and what evaluate says of them."""
    folder = tmp_path_factory.mktemp("critic")
    (place := folder / "rt-polaritydata").mkdir()
    digests = {}
    for kind, word in (("neg", "bad"), ("pos", "good")):
        content = "".join(f"{word} film {i} {'x ' * (i % 7)}\n" for i in range(30)).encode("latin-1")
        (place / f"rt-polarity.{kind}").write_bytes(content)
        digests[f"rt-polarity.{kind}"] = hashlib.sha256(content).hexdigest()
    words = ["model=bert_small", "task=classification", "data=movie_reviews", f"data_dir={folder}", *SMALL]
    words += ["model.width=16", "model.heads=2", "model.depth=1", "model.num_classes=2", f"run_dir={folder / 'run'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MovieReviews, "digests", digests)
        result = run(compose(words), quiet=True)
        path = result.folder / "checkpoints/best.ckpt"
        content = torch.load(path, weights_only=True)
        for weights in content["state_dict"].values():
            weights.mul_(20 if weights.ndim == 2 else 1)  # or all lines would get the same answer, nearly
        torch.save(content, path)
        evaluate(result.folder)
        data: Any = load_run(result.folder).data
        data.setup()
    return result.folder, data.lines["test"], table((result.folder / "predictions-test.csv").read_text())


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


class Copying:
    """A translator that writes what it reads; it counts the batches that it gets."""

    context, training, batches = None, False, 0

    def encode(self, source: Tensor, lengths: Tensor | None = None) -> Tensor:
        self.batches += 1
        assert lengths is None or torch.equal(lengths, (source != PAD).sum(1).cpu())
        return source

    def start(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        return memory, torch.zeros_like(memory[:, :1])

    def decode(self, target: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        memory, place = state
        places = place + torch.arange(target.shape[1])
        following = memory.gather(1, places.clamp(max=memory.shape[1] - 1))
        return 50.0 * F.one_hot(following, 400).float(), (memory, places[:, -1:] + 1)


def copy(patch: pytest.MonkeyPatch) -> None:
    """This is then what nets of Transformer's kind do when they translate; what they learn is not touched."""
    for name in ("encode", "start", "decode"):
        patch.setattr(Transformer, name, getattr(Copying, name))
    patch.setattr(Transformer, "batches", 0, raising=False)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    copy(monkeypatch)


# ---- translators ---------------------------------------------------------------------------------------------------


def test_translations_are_those_of_the_test(translator: Path, cli: Callable[..., Said]) -> None:
    Path("test.de").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    said = cli("predict", str(translator), "test.de")
    assert (said.code, said.err) == (0, "")
    known = load_run(translator)
    words: Any = restored(known.data.vocabulary)
    expected = []
    for line in LINES:
        source = torch.tensor([[*words.encode(line), words.eos]])
        (ids,) = beam(known.net, source, bos=words.bos, eos=words.eos, width=4, alpha=0.6, limit=CONTEXT)
        expected.append(" ".join(words.decode(ids).splitlines()))
    assert said.out == "".join(f"{line}\n" for line in expected)
    assert any(expected)


def test_evaluate_holds_each_split_against_its_own_references(translator: Path) -> None:
    metrics = json.loads((translator / "evaluation-val.json").read_text())
    assert metrics["val/bleu"] == pytest.approx(100)  # of sentences that are the same in both languages, copied


def test_each_line_has_its_translation_in_its_place(translator: Path, copying: None, cli: Callable[..., Said]) -> None:
    Path("a.de").write_bytes("\ufeff Ein Mann . \r\n\r\n\nÉin <eos>\n\n".encode())
    Path("b.txt").write_text("Zwei", encoding="utf-8")
    said = cli("predict", str(translator), "a.de", "b.txt")
    assert (said.code, said.err) == (0, "")
    assert said.out == "ein mann .\n\n\néin <eos>\n\nzwei\n"  # in lower case, as the data were


def test_lines_of_similar_length_go_together_in_any_order() -> None:
    words = Words([str(n) for n in range(10)])
    lines = [" ".join("0123456789"[: n % 11]) for n in range(400)]
    net = Copying()
    for width in (1, 3):
        task = SimpleNamespace(net=net, device=torch.device("cpu"), beam_width=width, length_penalty=0.6, longer=2)
        task.to = task.eval = lambda *_, task=task: task
        net.batches = 0
        assert predict_text.translations(task, words, [words.encode(line) for line in lines]) == lines
        assert net.batches == -(-sum(map(bool, lines)) // predict_text.BATCH)


def test_a_long_line_is_cut_and_counted(translator: Path, copying: None, cli: Callable[..., Said]) -> None:
    written("\n".join("q" * count for count in (11, 12, 10, 3)), "long.de")  # a blank before each q..., and <eos>
    said = cli("predict", str(translator), "long.de")
    assert said.out == "".join("q" * count + "\n" for count in (10, 10, 10, 3))
    assert said.err == f"dl-zoo: 2 lines are longer than the context of {CONTEXT} tokens, and cut there\n"


def test_output_is_a_file_for_each(translator: Path, copying: None, cli: Callable[..., Said]) -> None:
    Path("in").mkdir()
    Path("in/a.de").write_text("eins\n\ndrei\nvier\n", encoding="utf-8")
    Path("in/b.txt").write_text("fünf", encoding="utf-8")
    said = cli("predict", str(translator), "in/a.de", "in", "--output", "deep/out")
    assert said.code == 0
    assert said.out == (
        f"written      deep/out/a.en.txt (4 lines)\n{'':13}eins\n\n{'':13}drei\n"
        f"written      deep/out/b.en.txt (1 line)\n{'':13}fünf\n"
    )
    assert Path("deep/out/a.en.txt").read_text(encoding="utf-8") == "eins\n\ndrei\nvier\n"
    assert Path("deep/out/b.en.txt").read_text(encoding="utf-8") == "fünf\n"


def test_names_of_translations(tmp_path: Path) -> None:
    files = [Path(name) for name in ("x/test.de", "x/letter.txt", "y/poem.de.txt", "notes", ".de", "z.fr")]
    names = ["test", "letter", "poem", "notes", ".de", "z.fr"]
    assert predict_text.names_of(files, tmp_path, "de", "en") == [f"{name}.en.txt" for name in names]


@pytest.mark.parametrize("files", [("a.de", "in/a.txt"), ("a.de", "out/a.en.txt")])
def test_no_translation_overwrites_another_file(files: tuple[str, ...], translator: Path, cli: Any) -> None:
    for file in files:
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("eins", encoding="utf-8")
    assert "a.en.txt" in one_line(cli("predict", str(translator), *files, "--output", "out"))
    assert all(Path(file).read_text(encoding="utf-8") == "eins" for file in files)


# ---- classifiers ---------------------------------------------------------------------------------------------------


def test_classes_are_those_of_evaluate(critic: Any, cli: Callable[..., Said], monkeypatch: Any) -> None:
    monkeypatch.setattr(predict_text, "BATCH", 2)  # lines of similar length, and then in their order again
    folder, lines, known = critic
    Path("some.txt").write_text("\n".join(["", *lines[:4], " "]), encoding="utf-8")
    Path("more.txt").write_text("\n".join(lines[4:]), encoding="utf-8")
    said = cli("predict", str(folder), "some.txt", "more.txt")
    assert said.code == 0
    assert said.out.splitlines()[0] == "path,line,class,probability,class_2,probability_2"
    rows = table(said.out)
    assert [(row["path"], row["line"]) for row in rows] == [
        *(("some.txt", str(number)) for number in range(2, 6)),
        *(("more.txt", str(number)) for number in range(1, len(lines) - 3)),
    ]
    assert len({row["probability"] for row in rows}) > 3
    for row, expected in zip(rows, known, strict=True):
        assert row["class"] == MovieReviews.classes[int(expected["prediction"])]
        assert float(row["probability"]) == pytest.approx(float(expected["confidence"]), rel=1e-4)


def test_of_a_long_text_the_beginning_counts(critic: Any, cli: Callable[..., Said]) -> None:
    said = cli("predict", str(critic[0]), str(written(f"{'good ' * 11}\n{'good ' * 12}\nunheard")), "--top", "1")
    one, other, _ = table(said.out)
    assert list(one) == ["path", "line", "class", "probability"]
    assert one["probability"] == other["probability"]
    assert said.err == f"dl-zoo: 1 line is longer than the context of {CONTEXT} tokens, and cut there\n"
    out = cli("predict", str(critic[0]), "text.txt", "--top", "1", "--output", "out")
    assert (out.out, Path("out/predictions.csv").read_text()) == ("written      out/predictions.csv\n", said.out)


def written(text: str | bytes, name: str = "text.txt") -> Path:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Path(name)


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_bytes_that_are_no_text(translator: Path, cli: Callable[..., Said]) -> None:
    written("gut\nschön".encode("latin-1"), "old.de")
    written("gut", "good.de")
    line = one_line(cli("predict", str(translator), "good.de", "old.de", "--output", "out"))
    assert line.startswith("dl-zoo: old.de: byte 7 (0xf6, in line 2) is not UTF-8; ")
    assert not Path("out").exists()


def test_a_picture_for_a_translator(translator: Path, cli: Callable[..., Said]) -> None:
    written(b"\x89PNG\r\n", "scan.png")
    line = f"scan.png: is a picture by its name, and {translator} reads text; name files of text"
    assert one_line(cli("predict", str(translator), "scan.png")) == f"dl-zoo: {line}"


def test_a_text_for_a_classifier_of_pictures(cli: Callable[..., Said]) -> None:
    folder = of_pictures("trainer.max_epochs=0").folder
    written("Ein Mann\n", "a.de")
    line = f"a.de: is text, and {folder} was trained on none; name pictures"
    assert one_line(cli("predict", str(folder), "a.de")) == f"dl-zoo: {line}"


def test_a_language_model(cli: Callable[..., Said]) -> None:
    written("ein Mann\n" * 40)
    words = ["model=gpt_char", "model.width=16", "model.depth=1", "model.heads=2", "data=text_file"]
    result: Result = run(compose([*words, "data.path=text.txt", "data.batch_size=4", *SMALL]), quiet=True)
    assert "see dl-zoo sample --help" in one_line(cli("predict", str(result.folder), "text.txt"))


def test_bad_words_are_one_line(critic: Any, translator: Path, cli: Callable[..., Said]) -> None:
    Path("empty").mkdir()
    written(" \n\n", "blank.txt")
    for words, line in {
        (critic[0], "blank.txt"): "none of the lines holds text; nothing is predicted",
        (critic[0], "nowhere.txt"): "nowhere.txt: there is no such file, folder or pattern of files",
        (critic[0], "empty"): "empty: holds no texts, by their names' endings; name the files themselves",
        (translator, "blank.txt", "--top", "0"): "--top 0: must be at least 1",
    }.items():
        assert one_line(cli("predict", *map(str, words))) == f"dl-zoo: {line}"
    assert cli("predict", str(translator), "blank.txt").out == "\n\n"
