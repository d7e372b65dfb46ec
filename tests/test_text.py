"""Windows of a text, pairs of sentences, and the texts they are cut from."""

import builtins
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import berts_tokenizer as bert
import pytest
import pytorch_lightning as pl
import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn

from dl_zoo import checkpoints
from dl_zoo.compose import compose
from dl_zoo.data.movie_reviews import MovieReviews
from dl_zoo.data.pairs import PairLoader, cut_by_tokens, paired
from dl_zoo.data.python_docs import PythonDocs, documentation
from dl_zoo.data.sequences import RewrittenPairs
from dl_zoo.data.text import IGNORED, Batches, TextLoader
from dl_zoo.data.text_file import TextFile
from dl_zoo.data.tinyshakespeare import TinyShakespeare
from dl_zoo.data.vocabulary import BPE, Characters
from dl_zoo.errors import UserError
from dl_zoo.loop import MUST_BE_LIGHTNINGS
from dl_zoo.run import run
from dl_zoo.tasks.translation import Translation

TOKENS = 103


def windows(**changes: Any) -> TextLoader:
    """A text whose i-th token is i, in windows of 8; shuffled, in batches of 3."""
    settings = {"context": 8, "batch_size": 3, "shuffle": True, "seed": 0, **changes}
    return TextLoader(torch.arange(TOKENS, dtype=torch.int32), **settings)


def pairs(**changes: Any) -> PairLoader:
    """40 pairs: the i-th source is i + 10 some times, its target i + 100 some other times."""
    sources = [[i + 10] * (i * 7 % 11) for i in range(40)]
    targets = [[i + 100] * (i * 5 % 9) for i in range(40)]
    settings = {"batch_tokens": 30, "batch_size": 6, "shuffle": True, "seed": 0, **changes}
    return PairLoader(paired(sources, targets), **settings)


def flat(batch: Any) -> list[Tensor]:
    return [batch] if isinstance(batch, Tensor) else [each for part in batch for each in flat(part)]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        len(flat(a)) == len(flat(b)) and all(map(torch.equal, flat(a), flat(b)))
        for a, b in zip(one, other, strict=True)
    )


def batches(loader: Batches, count: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < count:
        taken += islice(loader, count - len(taken))
    return taken


# ---- the contract of both loaders ------------------------------------------------------------------------------------

both = pytest.mark.parametrize("make", [windows, pairs])


@both
def test_resume_at_every_batch_equals_the_uninterrupted_run(make: Any) -> None:
    for settings in ({}, {"rank": 1, "world_size": 2}):
        length = len(make(**settings))
        whole = batches(make(**settings), 3 * length)
        for stop in (0, 1, length - 1, length, length + 1, 2 * length):
            first, second = make(**settings), make(**settings)
            taken = batches(first, stop)
            second.load_state_dict(first.state_dict())
            assert same(taken + batches(second, 3 * length - stop), whole), stop


@both
def test_the_state_is_ahead_and_epochs_follow(make: Any) -> None:
    one = make()
    assert one.state_dict() == {"epoch": 0, "batch": 0}
    for epoch in range(2):
        for place, _ in enumerate(one):
            assert one.state_dict() == {"epoch": epoch, "batch": place + 1}
        assert place + 1 == len(one)
    passes = [list(one), list(one)]
    assert not same(*passes), "an order of its own"
    one.set_epoch(2)
    assert same(list(one), passes[0])
    assert one.batch_sampler.sampler is one
    next(iter(one))
    one.set_epoch(3)
    assert one.state_dict() == {"epoch": 3, "batch": 1}, "the epoch it is in already"
    assert not same(list(make(seed=1)), list(make()))
    torch.manual_seed(5)
    assert same(list(make()), list(make())), "the global generator has no say"


@both
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_each_batch(make: Any, shuffle: bool) -> None:
    whole, ranks = list(make(shuffle=shuffle)), [list(make(shuffle=shuffle, rank=r, world_size=2)) for r in range(2)]

    def items(some: list[Any]) -> Counter[tuple[int, ...]]:
        return Counter(tuple(row[row >= 0].tolist()) for batch in some for row in batch[1])

    if shuffle:
        assert len(ranks[0]) == len(ranks[1])
        assert items(whole) >= items(ranks[0]) + items(ranks[1])
    else:
        assert items(whole) == items(ranks[0]) + items(ranks[1]), "none left out, none twice"
    with pytest.raises(UserError, match=r"data\.batch_size=1: fewer than one item for each of 2 processes"):
        make(batch_size=1, world_size=2)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_windows_in_order_have_every_token_once() -> None:
    inputs, targets = (torch.cat(each).flatten() for each in zip(*windows(shuffle=False, fill=7), strict=True))
    assert targets[targets != IGNORED].tolist() == list(range(1, TOKENS))
    assert torch.equal(inputs[targets != IGNORED] + 1, targets[targets != IGNORED])
    assert inputs[targets == IGNORED].tolist() == [102, 7], "13 windows of 8 for 102 targets"
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)


@pytest.mark.parametrize("tokens", [2, 8, 9, 10, 17])
def test_texts_about_as_long_as_a_window(tokens: int) -> None:
    ids = torch.arange(tokens)
    ordered = TextLoader(ids, context=8, batch_size=2, shuffle=False, seed=0)
    assert sum(int((y != IGNORED).sum()) for _, y in ordered) == tokens - 1
    if tokens > 8:
        starts = {
            int(x[0, 0])
            for seed in range(60)
            for x, _ in TextLoader(ids, context=8, batch_size=2, shuffle=True, seed=seed)
        }
        assert starts == set(range(min(8, tokens - 8)))


def test_shuffled_windows_tile_the_text_from_a_place_that_moves() -> None:
    loader, firsts = windows(), set()
    for _ in range(60):
        inputs, targets = (torch.cat(each) for each in zip(*loader, strict=True))
        assert torch.equal(inputs + 1, targets)
        starts = sorted(inputs[:, 0].tolist())
        assert [b - a for a, b in pairwise(starts)] == [8] * (len(starts) - 1), "side by side"
        assert inputs[:, 0].tolist() != starts
        firsts.add(starts[0])
    assert firsts == set(range(8)), "everywhere"
    assert len(starts) == 11


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_a_batch_of_pairs() -> None:
    (source, target_in, lengths), targets = next(iter(PairLoader(
        paired([[7, 8, 9], []], [[5], [6, 6]]), batch_tokens=99, batch_size=9, shuffle=False, seed=0
    )))  # fmt: skip
    assert source.tolist() == [[7, 8, 9, 2], [2, 0, 0, 0]]
    assert target_in.tolist() == [[1, 5, 0], [1, 6, 6]]
    assert targets.tolist() == [[5, 2, -100], [6, 6, 2]]
    assert (lengths.tolist(), lengths.device.type) == ([4, 1], "cpu")
    assert {each.dtype for each in (source, target_in, lengths, targets)} == {torch.int64}


def test_pairs_come_once_a_pass_within_the_budget_and_alike_in_length() -> None:
    loader = pairs()
    for _ in range(3):
        seen: list[int] = []
        for (source, target_in, lengths), targets in loader:
            longest = max(source.shape[1], target_in.shape[1])
            assert len(lengths) <= 6
            assert len(lengths) * longest <= 30
            assert source.shape[1] == lengths.max()
            assert target_in.shape == targets.shape
            assert torch.equal((source != 0).sum(1), lengths)
            assert torch.equal(target_in == 0, targets == IGNORED)
            seen += [int(row[0]) if len(row) > 1 else 0 for row in (r[r > 2] for r in source)]
        assert len(seen) == 40
    widths = [max(x.shape[1], t.shape[1]) for (x, t, _), _ in loader]
    assert widths != sorted(widths), "short and long batches in random order"
    real = sum(int(n.sum()) for (_, _, n), _ in loader)
    alike = sum(x.numel() for (x, _, _), _ in loader)
    anyhow = sum(x.numel() for (x, _, _), _ in pairs(shuffle=False))
    assert real <= alike < anyhow, "less padding"


def test_which_pairs_are_together_changes_but_not_how_many_batches() -> None:
    loader = pairs(batch_tokens=10_000, batch_size=4)
    together = [frozenset(tuple(sorted(y[:, 0].tolist())) for _, y in loader) for _ in range(4)]
    assert len(set(together)) == 4
    assert all(len(list(loader)) == len(loader) for _ in range(3))


def test_evaluation_is_in_the_files_order() -> None:
    loader = pairs(shuffle=False)
    firsts = [int(row[0]) for _, y in loader for row in y]
    assert firsts == [i + 100 if i * 5 % 9 else 2 for i in range(40)]


def test_lengths_stay_where_packing_reads_them() -> None:
    """By the way that `dl_zoo.loop` takes, and with the task's own hooks Lightning's, or it would not take it."""
    data = RewrittenPairs({}, work="copy", train_items=8, eval_items=8)
    data.setup()
    task = Translation(net=nn.Linear(1, 1), optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1))
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer._data_connector.attach_datamodule(task, data)
    (source, target, lengths), targets = trainer.strategy.batch_to_device(
        next(iter(data.loader("val"))), torch.device("meta"), 0
    )
    assert source.is_meta
    assert target.is_meta
    assert targets.is_meta
    assert lengths.tolist() == [11] * 8
    assert all(getattr(Translation, name) is getattr(pl.LightningModule, name) for name in MUST_BE_LIGHTNINGS)
    windows, following = data.transfer_batch_to_device((lengths, lengths), torch.device("meta"), 0)
    assert windows.is_meta
    assert following.is_meta


def test_cuts_keep_the_least_however_long() -> None:
    assert cut_by_tokens([50, 60, 70], tokens=10, most=9) == [(0, 1), (1, 2), (2, 3)]
    assert cut_by_tokens([50, 60, 70], tokens=10, most=9, least=2) == [(0, 2), (2, 3)]
    assert cut_by_tokens([], tokens=10, most=9) == []


# ---- under Lightning -------------------------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    """Writes down the first tokens of the windows that it is given, and saves a checkpoint at one step."""

    def __init__(self, save_at: int | None = None, place: Path | None = None):
        super().__init__()
        self.weight, self.seen, self.save_at, self.place = nn.Parameter(torch.zeros(())), [], save_at, place

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[0][:, 0].tolist())
        return self.weight * 0

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.global_step == self.save_at:
            self.trainer.save_checkpoint(self.place)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Recorder, file: Path, **settings: Any) -> list[list[int]]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=3, enable_model_summary=False, use_distributed_sampler=False, **quiet)
    data = TextFile({}, path=str(file), context=4, batch_size=2)
    trainer.fit(module, datamodule=data, **settings)
    return module.seen


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("save_at", [3, 5])
def test_lightning_resumes_within_and_at_the_end_of_an_epoch(save_at: int, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("".join(chr(97 + i * i % 23) for i in range(50)))
    place = tmp_path / "saved.ckpt"
    whole = fit(Recorder(save_at, place), tmp_path / "text")
    assert len(whole) == 3 * 5
    assert fit(Recorder(), tmp_path / "text", ckpt_path=place, weights_only=True) == whole[save_at:]


# ---- a file of one's own ---------------------------------------------------------------------------------------------


def text_file(folder: Path, content: bytes | str, **settings: Any) -> TextFile:
    path = folder / "text.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextFile({"vocab_size": None, "context": None, "pad_id": None}, path=str(path), **settings)


TEXT = "the quick brown fox jumps over the lazy dog, über alle Hunde\n" * 40


def test_splits_are_the_beginning_and_what_follows(tmp_path: Path) -> None:
    data = text_file(tmp_path, "\ufeff" + TEXT, context=16)
    data.setup()
    cut = int(len(TEXT) * 0.9)
    assert data.words.decode(data.splits["train"].tolist()) == TEXT[:cut]
    assert data.words.decode(data.splits["val"].tolist()) == TEXT[cut:]
    assert data.splits["test"] is data.splits["val"], "documented"
    assert data.dims == {"vocab_size": len(set(TEXT)), "context": 16, "pad_id": None}
    assert data.classes is None
    assert data.vocabulary == data.words.plain()
    assert data.characters == {"train": cut, "val": len(TEXT) - cut, "test": len(TEXT) - cut}
    assert {name: sum(len(x) for x, _ in data.loader(name)) for name in ("val", "test")} == {
        name: data.sizes[name] for name in ("val", "test")
    }
    assert sum(len(x) for x, _ in data.train_dataloader()) == data.sizes["train"]
    data.trainer = SimpleNamespace(
        overfit_batches=1, strategy=SimpleNamespace(root_device=torch.device("cpu")), global_rank=0, world_size=1
    )
    assert not data.train_dataloader().shuffle
    other = text_file(tmp_path, TEXT, test_share=0.2)
    other.setup()
    assert other.words.decode(other.splits["test"].tolist()) == TEXT[int(len(TEXT) * 0.8) :]
    assert other.origin == "text_file"
    assert len(other.fingerprint) == 16


def test_bpe_is_fitted_on_the_training_text_alone(tmp_path: Path) -> None:
    text = "ab " * 900 + "xy " * 100
    data = text_file(tmp_path, text, unit="bpe", merges=20, mask=True)
    data.setup()
    assert "ab" in data.words.symbols
    assert "xy" not in data.words.symbols
    assert data.words.decode(data.splits["val"].tolist()) == "xy " * 100
    assert data.dims["pad_id"] == 0
    assert data.dims["mask_id"] == data.dims["vocab_size"] - 1 == data.words.mask
    assert all(int(x.max()) < data.words.mask for x, _ in data.loader("train"))


def test_the_vocabulary_of_a_checkpoint_is_used_as_it_is(tmp_path: Path) -> None:
    data = text_file(tmp_path, TEXT)
    data.vocabulary = Characters(sorted({*TEXT, "Z"})).plain()
    data.setup()
    assert data.dims["vocab_size"] == len(set(TEXT)) + 1
    poor = text_file(tmp_path, TEXT)
    poor.vocabulary = Characters(sorted(set(TEXT) - {"q"})).plain()
    with pytest.raises(UserError, match=r"character 5 of the text is 'q', which is not among the"):
        poor.setup()
    damaged = text_file(tmp_path, TEXT)
    damaged.vocabulary = {"kind": "runes"}
    with pytest.raises(UserError, match="the vocabulary cannot be read"):
        damaged.setup()


def test_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    mine, other = BPE.fitted([TEXT], 30), BPE.fitted(["xy xy zz zz"], 5)
    for name, words in (("mine", mine), ("other", other)):
        (tmp_path / f"{name}.json").write_text(words.json)
    data = text_file(tmp_path, TEXT, unit="bpe", tokenizer=str(tmp_path / "mine.json"))
    data.setup()
    assert data.words.encode("the quick") == mine.encode("the quick")
    with pytest.raises(UserError, match=r"vocabulary is none of characters; set data\.unit=bpe"):
        text_file(tmp_path, TEXT, tokenizer=str(tmp_path / "mine.json")).setup()  # or its tokens would count as such
    later = text_file(tmp_path, TEXT, unit="bpe", tokenizer=str(tmp_path / "other.json"))
    later.vocabulary = data.vocabulary
    with pytest.raises(UserError, match=r"other\.json: not the tokenizer of this checkpoint"):
        later.setup()
    moved = text_file(tmp_path, TEXT, unit="bpe", tokenizer=str(tmp_path / "gone.json"))
    moved.vocabulary = data.vocabulary
    moved.setup()
    assert len(moved.words) == len(mine)
    (tmp_path / "bad.json").write_text("{}")
    for name in ("gone.json", "text.txt", "bad.json"):
        with pytest.raises(UserError, match=f"{name}: no file of the tokenizers library") as error:
            text_file(tmp_path, TEXT, unit="bpe", tokenizer=str(tmp_path / name)).setup()
        assert len(error.value.lines) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ab\ncd\xff", r"byte 5 \(0xff, in line 2\) is not UTF-8; iconv"),
        (b"\xef\xbb\xbfab\xe4", r"byte 5 \(0xe4, in line 1\) is not UTF-8"),
        (b"", r"train split: 0 tokens, and data\.context=64 needs 65; take a longer text"),
        (b"abc", r"train split: 2 tokens, and data\.context=64 needs 65"),
    ],
)
def test_texts_that_cannot_be_read(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as error:
        text_file(tmp_path, content).setup()
    assert len(error.value.lines) == 1


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path: must name a text file"):
        TextFile({}).setup()
    with pytest.raises(UserError, match=r"nowhere: there is no such file"):
        TextFile({}, path=str(tmp_path / "nowhere")).setup()
    for settings, words in (
        ({"unit": "runes"}, "data.unit=runes: must be characters or bpe"),
        ({"context": 0}, "data.context=0: must be at least 1"),
        ({"lowercase": True}, "data.lowercase=true: only data.unit=bpe has it"),
        ({"val_share": 0.6, "test_share": 0.4}, "data.val_share=0.6 and data.test_share=0.4: must leave some"),
    ):
        with pytest.raises(UserError) as error:
            TextFile({}, **settings)
        assert str(error.value).startswith(words)
    with pytest.raises(UserError, match=r"data\.dims\.vocab_size=7: the data's is"):
        TextFile({"vocab_size": 7}, path=text_file(tmp_path, TEXT).path).setup()


def test_a_preflight_has_the_true_shape(tmp_path: Path) -> None:
    data = text_file(tmp_path, TEXT, context=16)
    data.pretend(5)
    assert next(iter(data.train_dataloader()))[0].shape == (5, 16)
    assert data.dims["vocab_size"] == len(set(TEXT))
    absent = TinyShakespeare({"vocab_size": 65, "pad_id": None}, data_dir=str(tmp_path), context=16)
    assert absent.absent() == ["input.txt"]
    absent.pretend(5)
    assert next(iter(absent.train_dataloader()))[1].shape == (5, 16)
    assert absent.dims == {"vocab_size": 65, "context": 16, "pad_id": None}
    assert not any(tmp_path.glob("tiny*"))


# ---- the documentation of Python -------------------------------------------------------------------------------------


def test_the_documentation() -> None:
    text = documentation()
    assert 200_000 < len(text) < 700_000
    paragraphs = [each.strip() for each in text.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs)), "what is said twice would be known in validation"
    data = PythonDocs({})
    data.setup()
    assert data.dims["vocab_size"] == len(set(text)) < 200


def test_an_interpreter_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *others: Any, **more: Any) -> Any:
        if name.startswith("pydoc_data"):
            raise ModuleNotFoundError(name)
        return original(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"comes without its documentation .*; data=text_file data\.path=FILE takes any"
    ):
        PythonDocs({}).setup()


# ---- downloads -------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.content  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.most])  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.daemon_threads = True
        one.content, one.most = b"", None
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        one.url = f"http://127.0.0.1:{one.server_port}/"
        yield one
        one.shutdown()


def test_shakespeare_is_downloaded_once_and_checked(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    server.content = TEXT.encode()
    monkeypatch.setattr(TinyShakespeare, "mirrors", [server.url])
    monkeypatch.setattr(TinyShakespeare, "digests", {"input.txt": hashlib.sha256(server.content).hexdigest()})
    data = TinyShakespeare({}, data_dir=str(tmp_path / "new"))
    data.setup()
    path = tmp_path / "new/tinyshakespeare/input.txt"
    assert path.read_bytes() == server.content
    path.write_bytes(server.content[:-1])
    with pytest.raises(UserError, match=r"input\.txt is damaged .*: delete it to download it again"):
        TinyShakespeare({}, data_dir=str(tmp_path / "new")).setup()
    server.most = 100
    with pytest.raises(UserError, match=r"100 of .* bytes came.*data=python_docs runs without a download") as error:
        TinyShakespeare({}, data_dir=str(tmp_path / "other")).setup()
    assert len(error.value.lines) == 1
    assert not list((tmp_path / "other").rglob("*.txt"))


def reviews_archive() -> tuple[bytes, dict[str, bytes]]:
    import io
    import tarfile

    files = {
        f"rt-polarity.{kind}": "".join(f"{word} caf\xe9 {i} {'x ' * (i % 5)}\n" for i in range(30)).encode("latin-1")
        for kind, word in (("neg", "bad"), ("pos", "good"))
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {**files, "readme": b"..."}.items():
            member = tarfile.TarInfo(f"rt-polaritydata/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue(), files


def test_movie_reviews(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    server.content, files = reviews_archive()
    monkeypatch.setattr(MovieReviews, "archives", [server.url])
    monkeypatch.setattr(MovieReviews, "digests", {name: hashlib.sha256(f).hexdigest() for name, f in files.items()})
    data = MovieReviews({"vocab_size": None}, data_dir=str(tmp_path), context=6, fold=2)
    data.setup()
    assert {path.name for path in tmp_path.rglob("rt*.*")} == set(files)
    assert data.sizes == {"train": 48, "val": 6, "test": 6}
    assert {line.split()[2] for line in data.lines["test"]} == {"2", "12", "22"}
    assert {line.split()[2] for line in data.lines["val"]} == {"3", "13", "23"}
    inputs, targets = data.splits["train"]
    assert (tuple(inputs.shape), inputs.dtype, targets.bincount().tolist()) == ((48, 6), torch.int64, [24, 24])
    assert (inputs[:, 0] == 1).all()
    assert [data.words.decode(row) for row in inputs[targets == 1][:2].tolist()] == ["good café 0", "good café 1 x"]
    assert data.dims == {"vocab_size": len(data.words), "context": 6, "pad_id": 0, "num_classes": 2}
    assert "2" not in data.words.symbols, "the test's words are not known"
    assert data.words.encode("2") == [3]
    (tmp_path / "rt-polaritydata").rename(tmp_path / "mr_polarity")
    again = MovieReviews({}, data_dir=str(tmp_path), begin=False, mask=True, min_freq=2)
    assert again.absent() == []
    again.setup()
    assert again.dims["mask_id"] == len(again.words) - 1
    assert (again.splits["train"][0][:, 0] > 3).all()
    later = MovieReviews({}, data_dir=str(tmp_path))
    later.vocabulary = BPE.fitted(["good bad"], 5).plain()
    later.setup()
    assert later.dims["vocab_size"] == len(BPE.fitted(["good bad"], 5))
    foreign = MovieReviews({}, data_dir=str(tmp_path))
    foreign.vocabulary = Characters("abc").plain()
    with pytest.raises(UserError, match="the vocabulary of these weights has no padding"):
        foreign.setup()
    with pytest.raises(UserError, match=r"data\.fold=10: must be from 0 to 9"):
        MovieReviews({}, fold=10)


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the reviews of `reviews_archive`, and a tokenizer as BERT's."""
    _, files = reviews_archive()
    (tmp_path / "mr_polarity").mkdir()
    for name, content in files.items():
        (tmp_path / "mr_polarity" / name).write_bytes(content)
    monkeypatch.setattr(MovieReviews, "digests", {name: hashlib.sha256(f).hexdigest() for name, f in files.items()})
    bert.write(tmp_path / "tokenizer.json")
    return tmp_path


def test_reviews_in_berts_own_words(reviews: Path) -> None:
    arguments = {"data_dir": str(reviews), "tokenizer": str(reviews / "tokenizer.json"), "context": 6}
    data = MovieReviews({"mask_id": None}, **arguments, mask=True)
    data.setup()
    assert data.splits["train"][0][:2].tolist() == [[3, 7, 8, 9, 2, 4], [3, 7, 8, 9, 2, 4]], "[CLS] ... [SEP], cut"
    assert data.dims["pad_id"] == bert.PAD
    assert data.dims["mask_id"] == bert.MASK
    assert data.dims["vocab_size"] == len(bert.PIECES)
    assert data.dims["special_ids"] == [bert.PAD, bert.UNK, bert.CLS, bert.SEP]
    wide = MovieReviews({}, **arguments | {"context": 20})
    wide.setup()
    longest, shortest = wide.splits["train"][0][2:4].tolist()
    assert longest == [3, 7, 8, 9, 2, 10, 10, 10, 10, 4]
    assert shortest == [3, 7, 8, 9, 2, 4, 0, 0, 0, 0]
    later = MovieReviews({}, **arguments)
    later.vocabulary = data.vocabulary
    later.setup()
    assert later.words.symbols == data.words.symbols
    other = MovieReviews({}, **arguments)
    other.vocabulary = BPE.fitted(["good bad"], 5).plain()
    with pytest.raises(UserError, match="not the tokenizer of this checkpoint"):
        other.setup()
    tried = MovieReviews({"mask_id": None}, **arguments, mask=True)
    tried.pretend(4)
    assert tried.dims == data.dims
    for specials, words in (([], "it has no padding; name another"), (["[PAD]"], r"set data\.begin=false")):
        bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        bare.add_special_tokens(specials)
        bare.save(arguments["tokenizer"])
        for act in (lambda data: data.setup(), lambda data: data.pretend(2)):
            with pytest.raises(UserError, match=rf"tokenizer\.json: .*{words}"):
                act(MovieReviews({}, **arguments))


def test_reviews_tell_which_text_they_are(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = MovieReviews({}, data_dir=str(reviews))
    data.setup()
    place = reviews / "mr_polarity" / "rt-polarity.neg"
    place.write_bytes(place.read_bytes().replace(b"bad", b"sad"))
    monkeypatch.setitem(MovieReviews.digests, place.name, hashlib.sha256(place.read_bytes()).hexdigest())
    other = MovieReviews({}, data_dir=str(reviews), fold=3)
    other.setup()
    assert len(data.fingerprint) == len(other.fingerprint) == 16
    assert data.fingerprint != other.fingerprint


def hugging_faces(words: int, context: int, width: int) -> dict[str, Tensor]:
    """The names and shapes of their BERT of one layer that fills gaps; test_bert compares the nets themselves."""
    rows = {"word": words, "position": context, "token_type": 2}
    shapes: dict[str, tuple[int, ...]] = {f"embeddings.{n}_embeddings.weight": (rows[n], width) for n in rows}
    layer, attention = "encoder.layer.0", "encoder.layer.0.attention"
    dense = {f"{attention}.self.{name}": (width, width) for name in ("query", "key", "value")}
    dense |= {f"{attention}.output.dense": (width, width), "cls.predictions.transform.dense": (width, width)}
    dense |= {f"{layer}.intermediate.dense": (4 * width, width), f"{layer}.output.dense": (width, 4 * width)}
    shapes |= {f"{name}.weight": shape for name, shape in dense.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in dense.items()}
    for norm in ("embeddings", f"{attention}.output", f"{layer}.output", "cls.predictions.transform"):
        shapes |= {f"{norm}.LayerNorm.{part}": (width,) for part in ("weight", "bias")}
    shapes["cls.predictions.bias"] = (words,)
    whole = {name if name.startswith("cls") else f"bert.{name}": shape for name, shape in shapes.items()}
    return {name: 0.1 * torch.randn(shape) for name, shape in whole.items()}


def test_berts_weights_and_words_are_tuned_together(reviews: Path) -> None:
    """A folder as Hugging Face writes it, and its tokenizer; then the run's own weights, which carry the vocabulary."""
    (reviews / "theirs").mkdir()
    torch.save(hugging_faces(len(bert.PIECES), 12, 16), reviews / "theirs" / "pytorch_model.bin")
    quick = ["trainer=cpu", "trainer.max_epochs=0", "logger=none", "pictures=false", f"data_dir={reviews}"]
    small = ["model=bert_small", "model.width=16", "model.depth=1", "data=movie_reviews", "data.context=12"]
    own = f"data.tokenizer={reviews / 'tokenizer.json'}"
    judge = [*small, *quick, "task=classification", "model.num_classes=2"]
    first = run(compose([*judge, own, f"weights={reviews / 'theirs'}", f"run_dir={reviews / 'a'}"]), quiet=True)
    assert first.report is not None
    assert all(name.startswith(("pooler", "classifier")) for name in first.report.replaced)
    header = checkpoints.read(checkpoints.find(first.folder, "last"))["dl_zoo"]
    assert header["dims"]["vocab_size"] == len(bert.PIECES)
    data = json.loads((first.folder / "environment.json").read_text())["data"]
    assert data.startswith("movie_reviews ")
    again = run(compose([*judge, f"weights={first.folder}", f"run_dir={reviews / 'b'}"]), quiet=True)
    assert again.report is not None
    assert not again.report.replaced
    gaps = [*small, *quick, own, "data.mask=true", f"weights={reviews / 'theirs'}", f"run_dir={reviews / 'c'}"]
    last = run(compose(gaps), quiet=True)
    task = checkpoints.read(checkpoints.find(last.folder, "last"))["dl_zoo"]["config"]["task"]
    assert task["mask_id"] == bert.MASK
    assert task["special"] == [bert.PAD, bert.UNK, bert.CLS, bert.SEP]
    assert last.report is not None
    assert not last.report.replaced


def test_movie_reviews_before_they_are_there(tmp_path: Path) -> None:
    data = MovieReviews({"vocab_size": None}, data_dir=str(tmp_path), context=20, batch_size=4)
    assert data.absent() == ["rt-polarity.neg", "rt-polarity.pos"]
    data.pretend(8)
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, x.dtype, y.shape) == ((4, 20), torch.int64, (4,))
    assert int(x.max()) < data.dims["vocab_size"]
