"""Multi30k and the texts beside it: the official files where they are at hand, and small ones from a server."""

import gzip
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dl_zoo.data.movie_reviews import MovieReviews
from dl_zoo.data.multi30k import NAMES, Multi30k
from dl_zoo.data.tinyshakespeare import TinyShakespeare
from dl_zoo.data.vocabulary import BPE, Characters
from dl_zoo.errors import UserError

REAL = Path(os.environ.get("DL_ZOO_DATA", "data"))
CONFIGS = Path(__file__).parent.parent / "configs" / "data"
EMPTY = {"vocab_size": None, "context": None, "pad_id": None}
GERMAN = [
    "Zwei Hunde spielen.",
    "Ein Mann läuft über die Straße.",
    "Eine Frau liest ein Buch im Park.",
    "Ein Kind.",
] * 3
ENGLISH = ["Two dogs play.", "A man runs across the street.", "A woman reads a book in the park.", "A child."] * 3


def folder_of(path: Path, **others: Any) -> Path:
    """train, val and test in German and English; `others` are lines of some of them, such as train_de."""
    path.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        for language, usual in (("de", GERMAN), ("en", ENGLISH)):
            lines = others.get(f"{split}_{language}", usual)
            (path / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def own(folder: Path, **settings: Any) -> Multi30k:
    return Multi30k(EMPTY, **{"path": str(folder), "merges": 60, "batch_size": 4, "context": 40, **settings})


def ready(path: Path, **settings: Any) -> Multi30k:
    data = own(path, **settings)
    data.setup()
    return data


# ---- pairs of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "de")])
@pytest.mark.parametrize("lowercase", [True, False])
def test_both_directions(source: str, target: str, lowercase: bool, tmp_path: Path) -> None:
    data = ready(folder_of(tmp_path / "own"), source=source, target=target, lowercase=lowercase)
    sides = {"de": GERMAN, "en": ENGLISH}
    assert data.sources("val") == sides[source]
    expected = [line.lower() for line in sides[target]] if lowercase else sides[target]
    assert data.references("test") == expected
    written = []
    for (x, target_in, lengths), y in data.loader("test"):
        assert (target_in[:, 0] == 1).all()
        assert (x.gather(1, lengths[:, None] - 1) == 2).all()
        written += [data.words.decode(row[row >= 0].tolist()) for row in y]
    assert written == expected, "one vocabulary for both, and references in the loader's order"
    assert data.dims == {"vocab_size": len(data.words), "context": 40, "pad_id": 0}
    assert (data.classes, data.vocabulary) == (None, data.words.plain())
    assert sum(len(y) for _, y in data.train_dataloader()) == 12


def test_empty_lines_are_kept_where_it_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gaps = ["", "  ", *GERMAN[2:]]
    with caplog.at_level(logging.INFO, "dl_zoo"):
        data = ready(folder_of(tmp_path / "own", train_de=gaps, test_de=gaps))
    assert "train split: 2 of 12 pairs are left out, since a sentence of them is empty" in caplog.text
    assert data.sizes == {"train": 10, "val": 12, "test": 12}
    assert data.sources("train") == GERMAN[2:]
    (x, _, lengths), _ = next(iter(data.loader("test")))
    assert (lengths[:2].tolist(), x[:2, 0].tolist()) == ([1, 1], [2, 2])
    assert data.sources("test")[:2] == ["", ""]
    with pytest.raises(UserError, match="train split: every pair has an empty sentence"):
        ready(folder_of(tmp_path / "own", train_de=[""] * 12))


def test_sentences_longer_than_the_context(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = [*GERMAN[:11], "Hund " * 50]
    with caplog.at_level(logging.INFO, "dl_zoo"):
        data = ready(folder_of(tmp_path / "own", train_de=long, val_de=long), context=30)
    assert "train split: 1 pairs longer than data.context=30 are left out" in caplog.text
    assert "val split: 1 pairs longer than data.context=30 are cut" in caplog.text
    assert data.sizes == {"train": 11, "val": 12, "test": 12}
    assert len(data.sources("train")) == len(data.references("train")) == 11
    *_, ((x, _, lengths), _) = data.loader("val")
    assert (int(lengths[-1]), int(x[-1, 29])) == (30, 2)
    with pytest.raises(UserError, match=r"data\.context=2: every pair is longer; raise it"):
        ready(tmp_path / "own", context=2)


def test_files_of_different_length_and_other_mistakes(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "own", val_en=ENGLISH[:-1])
    with pytest.raises(UserError) as error:
        ready(path)
    assert str(error.value).startswith("val split: 12 lines in de and 11 in en; a line of one must be")
    folder_of(path)
    (path / "train.en").write_bytes(b"A dog.\nA caf\xe9.\n" + b"x\n" * 10)
    with pytest.raises(UserError, match=r"train\.en: byte 12 \(0xe9, in line 2\) is not UTF-8"):
        ready(path)
    (path / "train.en").unlink()
    with pytest.raises(UserError, match=r"train\.en: there is no such file, nor train\.en\.gz"):
        ready(path)
    (path / "train.en.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in ENGLISH).encode()))
    assert ready(path).sizes["train"] == 12, "packed will do"
    (path / "train.en.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(UserError, match=r"train\.en\.gz is damaged"):
        ready(path)
    for settings, words in (
        ({"source": "en"}, "data.source=en and data.target=en: must be two languages"),
        ({"source": "fr", "path": None}, "data.source=fr, data.target=en: the official pairs are de and en"),
        ({"merges": 0}, "data.merges=0: must be at least 1"),
        ({"batch_tokens": 0}, "data.batch_tokens=0: must be at least 1"),
    ):
        with pytest.raises(UserError) as error:
            own(path, **settings)
        assert str(error.value) == words


def test_tokenizers_and_vocabularies_from_elsewhere(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "own")
    mine = BPE.fitted(GERMAN, 20, sentences=True)
    (tmp_path / "mine.json").write_text(mine.json)
    data = ready(path, tokenizer=str(tmp_path / "mine.json"))
    assert data.words.encode("Hunde") == mine.encode("Hunde")
    later = own(path)
    later.vocabulary = data.vocabulary
    later.setup()
    assert later.dims["vocab_size"] == len(mine), "that of the checkpoint, not fitted anew"
    (tmp_path / "other.json").write_text(BPE.fitted(ENGLISH, 9).json)
    wrong = own(path, tokenizer=str(tmp_path / "other.json"))
    wrong.vocabulary = data.vocabulary
    with pytest.raises(UserError, match=r"other\.json: not the tokenizer of this checkpoint"):
        wrong.setup()
    (tmp_path / "renamed.json").write_text(mine.json.replace("<eos>", "</s>"))
    with pytest.raises(UserError, match=r"renamed\.json: its ids 0 to 3 must be <pad>, <bos>, <eos>, <unk>"):
        ready(path, tokenizer=str(tmp_path / "renamed.json"))
    foreign = own(path)
    foreign.vocabulary = Characters("abc").plain()
    with pytest.raises(UserError, match="the vocabulary of these weights is none of byte pairs"):
        foreign.setup()


def test_a_preflight_has_the_true_shape(tmp_path: Path) -> None:
    data = Multi30k(EMPTY, data_dir=str(tmp_path), merges=100, batch_size=8)
    assert len(data.absent()) == 6
    data.pretend(20)
    (x, target_in, lengths), y = next(iter(data.train_dataloader()))
    assert (x.shape, target_in.shape, lengths.tolist(), y.shape) == ((8, 16), (8, 16), [16] * 8, (8, 16))
    assert data.dims == {"vocab_size": 360, "context": 128, "pad_id": 0}
    assert data.sizes["train"] == 29_000
    assert not list(tmp_path.iterdir())


# ---- the official files ----------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.files[self.path.strip("/")]  # type: ignore[attr-defined]
        self.server.gets.append(self.path.strip("/"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serves small files, and makes them the originals."""
    texts = {
        f"{NAMES[split]}.{language}": "".join(f"{line}\n" for line in lines).encode()
        for split in NAMES
        for language, lines in (("de", GERMAN), ("en", ENGLISH))
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.daemon_threads = True
        one.files, one.gets = {f"{name}.gz": gzip.compress(text) for name, text in texts.items()}, []
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(Multi30k, "mirrors", [f"http://127.0.0.1:{one.server_port}/"])
        monkeypatch.setattr(
            Multi30k, "digests", {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
        )
        yield one
        one.shutdown()


def test_download(server: Any, tmp_path: Path) -> None:
    data = Multi30k(EMPTY, data_dir=str(tmp_path), merges=60)
    data.setup()
    assert sorted(path.name for path in (tmp_path / "multi30k").iterdir()) == sorted(Multi30k.digests)
    assert data.sources("test") == GERMAN
    Multi30k(EMPTY, data_dir=str(tmp_path), merges=60).setup()
    assert len(server.gets) == 6, "what is there is not downloaded again"
    (tmp_path / "multi30k/val.de").write_text("etwas anderes\n")
    with pytest.raises(UserError, match=r"val\.de is damaged .*: delete it to download it again"):
        Multi30k(EMPTY, data_dir=str(tmp_path), merges=60).setup()


def test_what_cannot_be_had_is_one_line(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Multi30k.digests, "val.en", "0" * 64)
    with pytest.raises(UserError, match=r"multi30k: expected train\.de, .*val\.en has another SHA-256") as error:
        Multi30k(EMPTY, data_dir=str(tmp_path)).setup()
    assert len(error.value.lines) == 1
    assert str(error.value).endswith("data=reverse_pairs runs without a download")
    assert not list(tmp_path.rglob("*.de"))


@pytest.mark.skipif(not (REAL / "multi30k").is_dir(), reason="no multi30k in DL_ZOO_DATA")
def test_the_official_text_is_what_lies_there() -> None:
    data = Multi30k(EMPTY, data_dir=str(REAL))
    assert data.absent() == []
    counts = {split: tuple(map(len, data.pairs(split))) for split in NAMES}
    assert counts == {split: (size, size) for split, size in Multi30k.sizes.items()}
    assert data.pairs("val")[0][0] == "Eine Gruppe von Männern lädt Baumwolle auf einen Lastwagen"


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "multi30k").is_dir(), reason="no multi30k in DL_ZOO_DATA")
def test_the_official_pairs_as_batches() -> None:
    data = Multi30k(EMPTY, data_dir=str(REAL), batch_size=256)
    data.setup()
    assert data.dims == {"vocab_size": 8260, "context": 128, "pad_id": 0}
    assert data.sizes == Multi30k.sizes
    loader = data.train_dataloader()
    padded = real = 0
    for (x, t, lengths), y in loader:
        padded, real = padded + x.numel() + t.numel(), real + int(lengths.sum()) + int((y >= 0).sum())
    assert real / padded > 0.92, "little padding"


@pytest.mark.skipif(not (REAL / "tinyshakespeare").is_dir(), reason="no tinyshakespeare in DL_ZOO_DATA")
def test_shakespeare_is_split_as_elsewhere() -> None:
    data = TinyShakespeare(EMPTY, data_dir=str(REAL))
    data.setup()
    assert data.characters == {"train": 1_003_854, "val": 111_540, "test": 111_540}
    assert data.dims == {"vocab_size": 65, "context": 64, "pad_id": None}
    assert sum(int((y >= 0).sum()) for _, y in data.loader("val")) == 111_539


@pytest.mark.skipif(not (REAL / "mr_polarity").is_dir(), reason="no mr_polarity in DL_ZOO_DATA")
def test_a_fold_of_the_reviews() -> None:
    data = MovieReviews(EMPTY, data_dir=str(REAL), fold=9)
    data.setup()
    assert data.sizes == {"train": 8528, "val": 1068, "test": 1066}
    assert data.splits["test"][1].bincount().tolist() == [533, 533]
    assert data.dims["context"] == 64
    longest = max(len(line.split()) for lines in data.lines.values() for line in lines)
    assert longest + 1 <= 64, "nothing is cut"


@pytest.mark.parametrize("name", ["text_file", "tinyshakespeare", "python_docs", "multi30k_de_en", "movie_reviews"])
def test_every_key_of_the_config_is_an_argument(name: str, tmp_path: Path) -> None:
    from hydra.utils import instantiate

    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    del content["card"]
    content |= {"data_dir": str(tmp_path), "seed": 0, "dims": dict.fromkeys(content["dims"])}
    data = instantiate(content)
    left = {key: value for key, value in content.items() if key not in ("_target_", "dims", "path")}
    assert {key: getattr(data, key) for key in left} == left


# ---- words that others have ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowercase", [True, False])
def test_the_vocabularys_case_decides(lowercase: bool, tmp_path: Path) -> None:
    data = own(folder_of(tmp_path / "own"), lowercase=not lowercase)
    data.vocabulary = BPE.fitted([*GERMAN, *ENGLISH], 20, lowercase, sentences=True).plain()
    data.setup()
    assert data.references("val") == ([line.lower() for line in ENGLISH] if lowercase else ENGLISH)


def test_a_preflight_has_words_to_say(tmp_path: Path) -> None:
    fresh, known = own(tmp_path / "nowhere"), own(tmp_path / "nowhere")
    known.vocabulary = BPE.fitted([*GERMAN, *ENGLISH], 20, sentences=True).plain()
    for data, count in ((fresh, 4 + 256 + 60), (known, len(BPE.fitted([*GERMAN, *ENGLISH], 20)))):
        data.pretend(5)
        assert data.dims == {"vocab_size": count, "context": 40, "pad_id": 0}
        assert len(data.words) == count
        (source, *_), targets = next(iter(data.loader("val")))
        assert [data.words.decode(row[row >= 0].tolist()) for row in targets] == data.references("val")[: len(source)]
        assert len(data.sources("val")) == len(data.references("val")) == 5


def test_which_text_it_was(tmp_path: Path) -> None:
    one, same, other = (folder_of(tmp_path / name) for name in ("one", "same", "other"))
    folder_of(other, test_en=[*ENGLISH[:-1], "Another."])
    prints = [ready(path).fingerprint for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 16
