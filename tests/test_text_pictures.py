"""What TensorBoard shows of a run on text: read back from the event file, every picture decoded; it costs no bit."""

import io
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import assert_same
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dl_zoo.callbacks import attention_pictures, texts
from dl_zoo.callbacks.attention_pictures import AttentionPictures, attention_figure, positions_figure, sentence
from dl_zoo.callbacks.figures import render
from dl_zoo.callbacks.tensorboard import TensorBoard
from dl_zoo.callbacks.texts import Texts, continuation, generated, table
from dl_zoo.data.vocabulary import Characters, Words
from dl_zoo.models.bert import BERT
from dl_zoo.models.gpt import GPT
from dl_zoo.models.seq2seq_attention import Seq2SeqAttention
from dl_zoo.models.transformer import Transformer
from dl_zoo.tasks.language_modelling import LanguageModelling
from dl_zoo.tasks.tagging import Tagging

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
TEXT = "the cat sat on the mat, and the dog sat on the cat.\n"
PAIRS = [("ein hund", "a dog"), ("eine katze sitzt auf der matte", "a cat is sitting on the mat"), ("ja", "yes")]


class Text(pl.LightningDataModule):
    """Windows of 16 characters; every split is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Characters.fitted(TEXT)
        self.dims = {"vocab_size": len(self.words), "context": 16, "pad_id": None}
        ids = torch.tensor(self.words.encode(3 * TEXT))
        rows = ids[: len(ids) // 17 * 17].reshape(-1, 17)
        self.batches = [(part[:, :-1], part[:, 1:]) for part in rows.split(4)]

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


class Pairs(pl.LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.words = Words.fitted([text for pair in PAIRS for text in pair])
        self.dims = {"vocab_size": len(self.words), "context": 64, "pad_id": 0}
        source, target = (padded([[*self.words.encode(pair[side]), 2] for pair in PAIRS], 0) for side in (0, 1))
        begun = padded([[1, *self.words.encode(pair[1])] for pair in PAIRS], 0)
        self.batch = ((source, begun, (source != 0).sum(1)), target.masked_fill(target == 0, -100))

    def test_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([self.batch], batch_size=None)


def padded(rows: list[list[int]], value: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def gpt(**arguments: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(**{"vocab_size": 18, "context": 16, "width": 16, "heads": 2, "depth": 2, **arguments})


def sgd(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1)


def trainer(logger: Any, *callbacks: Any, **arguments: Any) -> pl.Trainer:
    quiet = {f"enable_{what}": False for what in ("progress_bar", "model_summary", "checkpointing")}
    return pl.Trainer(
        accelerator="cpu", logger=logger, callbacks=list(callbacks), log_every_n_steps=1, **quiet, **arguments
    )


def images(folder: Any) -> dict[str, np.ndarray]:
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    found = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    return {
        tag: np.asarray(Image.open(io.BytesIO(each[-1].encoded_image_string))) for tag, each in sorted(found.items())
    }


def written(folder: Any, tag: str) -> dict[int, str]:
    """Step -> Markdown."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {each.step: each.tensor_proto.string_val[0].decode() for each in events.Tensors(f"{tag}/text_summary")}


def as_shown(markdown: str) -> str:
    """What TensorBoard makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library inside TensorBoard
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(markdown)


def a_run(folder: Any, *callbacks: Any, epochs: int = 2) -> Any:
    """Trained and tested: the weights, the metrics and the random state afterwards."""
    logger, data = TensorBoard(folder), Text()
    task = LanguageModelling(gpt(vocab_size=len(data.words), dropout=0.1), sgd)
    fit = trainer(logger, *callbacks, max_epochs=epochs, num_sanity_val_steps=1)
    torch.manual_seed(5)
    fit.fit(task, datamodule=data)
    metrics = dict(fit.callback_metrics)
    fit.test(task, datamodule=data, verbose=False)
    logger.close()
    return task.state_dict(), {**metrics, **fit.callback_metrics}, torch.get_rng_state()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        return folder, a_run(folder, Texts(), AttentionPictures())


def test_a_run_with_them_equals_one_without_to_the_bit(shown: Any, tmp_path: Any) -> None:
    assert_same(a_run(tmp_path), shown[1])


def test_each_epoch_shows_how_the_net_goes_on(shown: Any) -> None:
    said = written(shown[0], "generated/text")
    assert list(said) == [3, 6]
    for text in said.values():
        head, block = text.split("\n\n", 1)
        shown_text = "\n".join(line.removeprefix("    ") for line in block.split("\n"))
        assert head == "The net begins after 'the cat sat on t'."
        assert shown_text.startswith(TEXT[:16])
        assert len(shown_text) == 16 + texts.LENGTH
    assert len(set(said.values())) == 2  # it learns


def test_no_text_of_a_task_that_writes_none(tmp_path: Any) -> None:
    logger, data = TensorBoard(tmp_path), Text()
    fit = trainer(logger, Texts(), max_epochs=1)
    fit.fit(Tagging(gpt(vocab_size=len(data.words)), sgd), datamodule=data)
    logger.close()
    assert not EventAccumulator(str(tmp_path)).Reload().Tags()["tensors"]


def test_text_goes_on_where_the_context_ends_and_leaves_no_trace() -> None:
    net, prompt = gpt().train(), torch.zeros(1, 16, dtype=torch.int64)
    state = torch.get_rng_state()
    first = generated(net, prompt, 40)
    assert len(first) == 40
    assert first == generated(net, prompt, 40)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training


def test_a_continuation_is_shown_as_it_is() -> None:
    words = Characters.fitted("ab*<\n ")
    shown = continuation(words, words.encode("a*\n"), words.encode("\n<b>  a*b*".replace(">", "")))
    assert "<pre><code>" in (page := as_shown(shown))
    assert "a*\n\n&lt;b  a*b*" in page


def test_translations_become_a_table_once_an_epoch(tmp_path: Any) -> None:
    class Translating(LanguageModelling):
        writes = False

        def on_validation_epoch_end(self) -> None:
            super().on_validation_epoch_end()
            self.examples = [("ein|hund", "a dog", f"<unk> *at* {self.trainer.global_step}")]

    logger, data = TensorBoard(tmp_path), Text()
    fit = trainer(logger, Texts(), max_epochs=2)
    fit.fit(Translating(gpt(vocab_size=len(data.words)), sgd), datamodule=data)
    logger.close()
    said = written(tmp_path, "generated/translations")
    assert list(said) == [3, 6]  # each with what this epoch said
    page = as_shown(said[6])
    assert "<th>source</th>" in page
    assert "<td>ein|hund</td>" in page
    assert "<td>&lt;unk&gt; *at* 6</td>" in page


def test_markup_in_a_table_is_text() -> None:
    cells = ("a_b_ `c` [d](e)", "\\x | y\nz", "<b>&amp;</b>")
    page = as_shown(table(("one", "two", "three"), [cells]))
    assert "<td>a_b_ `c` [d](e)</td>" in page
    assert "<td>\\x | y z</td>" in page
    assert "<td>&lt;b&gt;&amp;amp;&lt;/b&gt;</td>" in page


# ---- attention -----------------------------------------------------------------------------------------------------


def test_a_language_model_shows_its_layers_and_positions(shown: Any) -> None:
    found = images(shown[0])
    assert list(found) == ["attention/layers.0.attention", "attention/layers.1.attention", "attention/positions"]
    for picture in found.values():
        assert all(100 < side < 1200 for side in picture.shape[:2])
        assert picture.std() > 5


def test_a_translator_shows_three_kinds_with_the_symbols_of_both_sides(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}

    def keep(maps: Tensor, names: Any, title: str) -> Any:
        drawn[title] = maps, names
        return attention_figure(maps, names, title)

    monkeypatch.setattr(attention_pictures, "attention_figure", keep)
    logger, data = TensorBoard(tmp_path), Pairs()
    net = Transformer(len(data.words), 64, 0, width=16, heads=2, hidden=16, depth=1)
    fit = trainer(logger, AttentionPictures())
    fit.test(Stub(net), datamodule=data, verbose=False)
    logger.close()
    layers = ("decoder.0.attention", "decoder.0.cross", "encoder.0.attention")
    assert list(images(tmp_path)) == [*(f"attention/{layer}" for layer in layers), "attention/positions"]
    maps, names = drawn["decoder.0.cross"]
    source, target = ([*PAIRS[1][0].split(), "<eos>"], ["<bos>", *PAIRS[1][1].split()])
    assert maps.shape[1:] == (len(target), len(source))
    assert names == {len(source): source, len(target): target}
    torch.testing.assert_close(maps.sum(2), torch.ones(maps.shape[:2]))


class Stub(pl.LightningModule):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def test_step(self, batch: Any, index: int) -> None:
        pass


def test_alignments_are_drawn_in_one_panel(tmp_path: Any) -> None:
    logger, data = TensorBoard(tmp_path), Pairs()
    fit = trainer(logger, AttentionPictures())
    fit.test(Stub(Seq2SeqAttention(len(data.words), embedding=8, width=8, maxout=4)), datamodule=data, verbose=False)
    logger.close()
    assert list(images(tmp_path)) == ["attention/attention"]


def test_what_has_no_attention_is_passed_over(tmp_path: Any) -> None:
    logger, data = TensorBoard(tmp_path), Pairs()
    trainer(logger, AttentionPictures()).test(Stub(nn.Linear(2, 2)), datamodule=data, verbose=False)
    logger.close()
    assert not images(tmp_path)


def test_a_sentence_is_short_without_padding_and_of_two_lengths() -> None:
    (inputs, _) = Pairs().batch
    source, target, lengths = sentence(inputs, 0) or ()
    assert (source.shape, target.shape, lengths.tolist()) == ((1, 7), (1, 8), [7])  # the first pair has 3 and 3
    long = torch.ones(2, 90, dtype=torch.int64)
    (cut,) = sentence(long, 0) or ()
    assert cut.shape == (1, attention_pictures.SYMBOLS)
    assert [each.numel() for each in sentence((long, long, None), None) or ()] == [24, 23, 1]
    assert sentence(torch.zeros(3, 5, dtype=torch.int64), 0) is None  # padding alone
    assert sentence(torch.rand(3, 1, 8, 8), None) is None  # pictures
    assert [each.tolist() for each in sentence(torch.tensor([[0, 0], [7, 0]]), 0) or ()] == [[[7]]]


def test_symbols_that_cannot_be_seen_are_shown() -> None:
    words = SimpleNamespace(symbols=[" ", "\n", "a", "", " the"])
    shown = [attention_pictures.symbol(words, token) for token in range(5)]
    assert shown == ["␣", "↵", "a", "∅", "␣the"]
    assert attention_pictures.symbol(None, 7) == "7"


@pytest.mark.parametrize("kind", ["sinusoid", "learned", "rotary", "none"])
def test_positions_are_those_that_are_added(kind: str) -> None:
    net = gpt(positions=kind, vocab_size=5)
    found = attention_pictures.positions(net)
    if kind in ("rotary", "none"):
        assert found is None
        return
    assert found is not None
    zeros = torch.zeros(1, 16, 16)
    torch.testing.assert_close(found, net.positions(zeros)[0].detach())
    assert found.shape == (16, 16)


def test_bert_names_its_positions_too() -> None:
    net = BERT(vocab_size=20, context=12, width=8, heads=2, depth=1)
    found = attention_pictures.positions(net)
    assert found is not None
    assert torch.equal(found, net.embedding.positions.table.weight)


def test_more_heads_than_fit_are_said() -> None:
    figure = attention_figure(torch.full((12, 5, 5), 0.2), {5: list("abcde")}, "layer")
    assert len(figure.axes) == 8
    assert "12 heads, the first 8" in figure.get_suptitle()
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list("abcde")
    assert not figure.axes[1].get_yticks().size
    assert not figure.axes[0].get_xticks().size
    assert [text.get_text() for text in figure.axes[7].get_xticklabels()] == list("abcde")


def test_a_picture_of_positions_survives_a_table_of_zeros() -> None:
    assert render(positions_figure(torch.zeros(4, 6))).shape[2] == 3
