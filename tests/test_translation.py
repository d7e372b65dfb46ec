"""The translation task: what it measures, what it translates with which weights, and what it says of BLEU."""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import sacrebleu
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from dl_zoo.data.vocabulary import BOS, EOS, PAD, Words
from dl_zoo.decoding import beam, greedy
from dl_zoo.errors import UserError
from dl_zoo.models.seq2seq_attention import Seq2SeqAttention
from dl_zoo.models.transformer import Transformer
from dl_zoo.regularizers.averaging import SWA
from dl_zoo.tasks import translation
from dl_zoo.tasks.translation import Translation

WORDS = Words(["a", "b", "c", "d", "e", "f"])
LINES = ["a b c d e", "b c", "", "f e d c", "a a b", "d e f a b c", "c"]
REFERENCES = ["e d c b a", "c b", "", "c d e f", "b a a", "c b a f e d", "c"]
LONGER = 5
CASES = "with capitals", "in lower case"
Batch = tuple[tuple[Tensor, Tensor, Tensor], Tensor]


def batch_of(sources: list[str], targets: list[str]) -> Batch:
    def padded(rows: list[list[int]], value: int = PAD) -> Tensor:
        return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    read, wanted = ([WORDS.encode(line) for line in lines] for lines in (sources, targets))
    source = padded([[*ids, EOS] for ids in read])
    lengths = torch.tensor([len(ids) + 1 for ids in read])
    return (source, padded([[BOS, *ids] for ids in wanted]), lengths), padded([[*ids, EOS] for ids in wanted], -100)


class Loader:
    """A list of batches is several loaders to Lightning."""

    def __init__(self, batches: list[Batch]):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


class Reversed(pl.LightningDataModule):
    """Lines and the same backwards; in batches of three."""

    def __init__(self, words: Any = WORDS):
        super().__init__()
        self.words = words

    def sources(self, split: str) -> list[str]:
        return LINES if split == "val" else LINES[::-1]

    def references(self, split: str) -> list[str]:
        return REFERENCES if split == "val" else REFERENCES[::-1]

    def batches(self, split: str) -> list[Batch]:
        pairs = self.sources(split), self.references(split)
        return [batch_of(*(lines[start : start + 3] for lines in pairs)) for start in range(0, len(LINES), 3)]

    def train_dataloader(self) -> Loader:
        return Loader(self.batches("val"))

    def val_dataloader(self) -> Loader:
        return Loader(self.batches("val"))

    def test_dataloader(self) -> Loader:
        return Loader(self.batches("test"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(net: nn.Module | None = None, **settings: Any) -> Translation:
    net = net or Seq2SeqAttention(len(WORDS), embedding=12, width=16, maxout=8)
    return Translation(net=net, optimizer=partial(torch.optim.Adam, lr=0.02), **{"longer": LONGER, **settings})


def trainer(tmp_path: Path, **settings: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "barebones": False}
    return pl.Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        **{**quiet, **settings},
    )


def translated(net: Any, split: str, search: Callable[..., list[list[int]]]) -> list[str]:
    """Line by line, without padding; the limits are those of the batches."""
    lines = []
    for (source, _, lengths), _ in Reversed().batches(split):
        for row, length in zip(source, lengths, strict=True):
            (ids,) = search(net, row[None, :length], bos=BOS, eos=EOS, limit=source.shape[1] + LONGER)
            lines.append(WORDS.decode(ids) if length > 1 else "")
    return lines


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Translation, dict[str, float]]:
    """A net that translates some lines well, and what its last validation said."""
    torch.manual_seed(1)
    task = make()
    optimizer = torch.optim.Adam(task.net.parameters(), 0.02)
    for batch in Reversed().batches("val") * 25:
        optimizer.zero_grad()
        task.measure(batch).loss.backward()
        optimizer.step()
    logger = logging.getLogger("dl_zoo")
    words: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: words.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        runner = trainer(tmp_path_factory.mktemp("learned"), max_epochs=2)
        runner.fit(task, datamodule=Reversed())
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    task.said = words  # type: ignore[assignment]
    return task, {name: float(value) for name, value in runner.callback_metrics.items()}


def test_bleu_is_sacrebleus_of_the_nets_own_lines(learned: Any) -> None:
    task, metrics = learned
    lines = translated(task.net, "val", greedy)
    expected = sacrebleu.corpus_bleu(lines, [REFERENCES]).score
    assert metrics["val/bleu"] == pytest.approx(expected, abs=1e-4)
    assert 5 < expected < 100.5
    assert task.examples == list(zip(LINES, REFERENCES, lines, strict=True))
    assert task.examples[2] == ("", "", "")


def test_the_signature_is_told_once(learned: Any) -> None:
    task, _ = learned
    assert task.signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert task.said == [f"BLEU is sacrebleu's: {task.signature}"]


def test_the_test_is_searched_by_beam(learned: Any, tmp_path: Path) -> None:
    task, _ = learned
    scores = {}
    for width, alpha in ((1, 0.0), (3, 2.0)):
        task.beam_width, task.length_penalty = width, alpha
        runner = trainer(tmp_path)
        before = task.examples
        runner.test(task, datamodule=Reversed(), verbose=False)
        lines = translated(task.net, "test", partial(beam, width=width, alpha=alpha))
        expected = sacrebleu.corpus_bleu(lines, [REFERENCES[::-1]]).score
        scores[width] = float(runner.callback_metrics["test/bleu"])
        assert scores[width] == pytest.approx(expected, abs=1e-4)
        assert task.examples == before  # those of the validation


@pytest.mark.parametrize("items", [0, 1, 4, 500])
def test_only_so_many_are_translated(items: int, learned: Any, tmp_path: Path) -> None:
    net = learned[0].net
    task, runner = make(net, bleu_items=items), trainer(tmp_path)
    runner.validate(task, datamodule=Reversed(), verbose=False)
    if not items:
        assert "val/bleu" not in runner.callback_metrics
        assert task.examples == []
        return
    lines = translated(net, "val", greedy)[:items]
    expected = sacrebleu.corpus_bleu(lines, [REFERENCES[:items]]).score
    assert float(runner.callback_metrics["val/bleu"]) == pytest.approx(expected, abs=1e-4)
    assert len(task.examples) == min(items, 7)


def test_lowercase(learned: Any, tmp_path: Path) -> None:
    class Shouted(Reversed):
        def references(self, split: str) -> list[str]:
            return [line.upper() for line in super().references(split)]

    scores = []
    for lowercase in (False, True):
        task, runner = make(learned[0].net, lowercase=lowercase), trainer(tmp_path)
        runner.validate(task, datamodule=Shouted(), verbose=False)
        scores.append(float(runner.callback_metrics["val/bleu"]))
        assert ("case:lc" in task.signature) is lowercase
    assert scores[0] < 1 < scores[1]


@pytest.mark.parametrize("stated", [None, False, True])
def test_the_vocabulary_decides_the_case(
    stated: bool | None, learned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net whose words have no capitals is asked for none, whatever the data say of their own."""

    class Shouted(Reversed):
        lowercase = stated

        def references(self, split: str) -> list[str]:
            return [line.upper() for line in super().references(split)]

    if stated is None:
        del Shouted.lowercase
    said: list[str] = []
    monkeypatch.setattr(translation.log, "info", lambda text, *values: said.append(text % values))
    scores = {}
    for folds in (False, True):
        task, runner = make(learned[0].net), trainer(tmp_path)
        runner.validate(task, datamodule=Shouted(Words(WORDS.known, lowercase=folds)), verbose=False)
        scores[folds] = float(runner.callback_metrics["val/bleu"])
        assert task.examples[0][1] == (REFERENCES[0] if folds else REFERENCES[0].upper())
    expected = sacrebleu.corpus_bleu(translated(learned[0].net, "val", greedy), [REFERENCES]).score
    assert scores[True] == pytest.approx(expected, abs=1e-4)
    assert scores[False] < 1
    told = [line.partition("; ")[2] for line in said]
    capitals, lower = (f"{how} as the vocabulary is, whatever data.lowercase says" for how in CASES)
    assert told == {None: ["", ""], False: ["", lower], True: [capitals, ""]}[stated]


@pytest.mark.parametrize("data", [None, Reversed(words=None)])
def test_without_a_vocabulary_there_is_no_bleu(data: Any, tmp_path: Path) -> None:
    task, runner = make(), trainer(tmp_path, max_epochs=1)
    if data is None:
        runner.fit(task, Reversed().train_dataloader(), Reversed().val_dataloader())
    else:
        runner.fit(task, datamodule=data)
    assert {"val/loss", "val/ppl", "val/acc", "train/loss", "train/ppl"} <= set(runner.callback_metrics)
    assert "val/bleu" not in runner.callback_metrics


# ---- what it measures ------------------------------------------------------------------------------------------------


def test_the_loss_is_nats_a_word() -> None:
    task, ((source, target, lengths), targets) = make(), Reversed().batches("val")[0]
    logits, _ = task.net(source, target, lengths)
    log_p = logits.log_softmax(2)
    real = targets != -100
    each = -log_p.gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0][real]
    right = (logits.argmax(2) == targets)[real].sum()
    for smoothing in (0.0, 0.1):
        task.label_smoothing = smoothing
        evaluated = task.eval().measure(((source, target, lengths), targets))
        torch.testing.assert_close(evaluated.loss, each.mean())
        assert int(evaluated.items) == real.sum() == 10  # 5 + 2 + 0 words and three ends
        assert int(evaluated.sums["acc"]) == right
        trained = task.train().measure(((source, target, lengths), targets))
        spread = -log_p.mean(2)[real].mean()
        torch.testing.assert_close(trained.loss, (1 - smoothing) * each.mean() + smoothing * spread)
        means = task.derive({name: value.item() / 10 for name, value in trained.sums.items()})
        assert means["ppl"] == pytest.approx(each.mean().exp().item(), rel=1e-4)  # without the smoothing


def test_the_loss_of_an_epoch_weighs_words_alike(tmp_path: Path) -> None:
    task, runner, batches = make(), trainer(tmp_path), Reversed().batches("val")
    runner.validate(task, datamodule=Reversed(), verbose=False)
    with torch.no_grad():
        losses = [task.eval().measure(batch) for batch in batches]
    expected = sum(float(each.loss) * int(each.items) for each in losses) / sum(int(each.items) for each in losses)
    assert float(runner.callback_metrics["val/loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_context_that_is_too_short_to_translate_is_no_error(tmp_path: Path) -> None:
    net = Transformer(len(WORDS), context=7, width=16, heads=2, hidden=16, depth=1)
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(make(net), datamodule=Reversed())
    runner.test(make(net), datamodule=Reversed(), verbose=False)
    assert 0 <= float(runner.callback_metrics["test/bleu"]) <= 100


# ---- averages of the weights, several processes ---------------------------------------------------------------------


def test_the_average_is_what_translates(learned: Any, tmp_path: Path) -> None:
    """SWA puts it into the net for the validation alone: loss and BLEU are both of the average."""
    task = make(deepcopy(learned[0].net))
    task.make_optimizer = partial(torch.optim.SGD, lr=0.5)  # steps so large that the average differs
    runner = trainer(tmp_path, max_epochs=3, callbacks=[SWA(0.0)])
    seen: list[list[tuple[str, str, str]]] = []

    class Watch(pl.Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append(pl_module.examples)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # by now the trained weights are back
            trained.append(translated(pl_module.net, "val", greedy))

    trained: list[list[str]] = []
    runner.callbacks.append(Watch())
    runner.fit(task, datamodule=Reversed())
    averaged = translated(task.net, "val", greedy)  # training ended with the average in the net
    assert [line for _, _, line in seen[-1]] == averaged
    assert trained[-1] != averaged
    check = trainer(tmp_path)
    check.validate(task, datamodule=Reversed(), verbose=False)
    for name in ("val/loss", "val/bleu"):
        assert float(check.callback_metrics[name]) == pytest.approx(float(runner.callback_metrics[name]), rel=1e-5)


@pytest.mark.parametrize("items", [2, 7])
def test_lines_of_several_processes_come_in_order(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has every second line of each batch; one stops a batch later than the other."""
    batches = [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    ranks: list[list[list[str]]] = []
    for rank in range(2):
        mine: list[list[str]] = []
        for batch in batches:
            if sum(map(len, mine)) < items and batch[rank::2]:
                mine.append(batch[rank::2])
        ranks.append(mine)
    task = make()
    task._written = ranks[0]
    monkeypatch.setattr(task, "_of_all_ranks", lambda mine: ranks)
    written: list[str] = []
    monkeypatch.setattr(task.bleu, "corpus_score", lambda lines, references: written.extend(lines) or 1 / 0)
    task._trainer = type("Trainer", (), {"datamodule": Reversed()})()  # type: ignore[assignment]
    monkeypatch.setattr(type(task), "trainer", property(lambda self: self._trainer))
    with pytest.raises(ZeroDivisionError):
        task._scored("val", items)
    expected = [str(number) for number in range(items)]
    assert written == [line if LINES[place] else "" for place, line in enumerate(expected)]


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"label_smoothing": 1.0}, "task.label_smoothing=1.0: must be at least 0 and below 1"),
        ({"bleu_items": -1}, "task.bleu_items=-1: must be at least 0"),
        ({"beam_width": 0}, "task.beam_width=0: must be at least 1"),
        ({"length_penalty": -0.5}, "task.length_penalty=-0.5: must be at least 0"),
        ({"longer": -1}, "task.longer=-1: must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        make(**settings)
    assert str(error.value) == words


def test_the_yaml_states_the_defaults() -> None:
    file = Path(__file__).parents[1] / "configs" / "task" / "translation.yaml"
    stated = {name: value for name, value in yaml.safe_load(file.read_text()).items() if not name.startswith("_")}
    del stated["card"]
    task = Translation(net=nn.Linear(1, 1), optimizer=partial(torch.optim.Adam))
    assert {name: getattr(task, name) for name in stated if name != "lowercase"} == {
        name: value for name, value in stated.items() if name != "lowercase"
    }
    assert stated["lowercase"] is task.bleu.lowercase is False


def test_smoothed_training_still_learns(learned: Any) -> None:
    """The fixture's net, at last: most words right, and the loss far below a guess among ten."""
    _, metrics = learned
    assert metrics["val/acc"] > 0.6
    assert metrics["val/loss"] < 0.5 * F.cross_entropy(torch.zeros(1, 10), torch.tensor([0])).item()
