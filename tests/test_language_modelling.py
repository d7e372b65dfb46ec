"""The tasks of tokens: next token, hidden tokens, one label a token; their losses against ones written out by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from conftest import Said, assert_same, one_line
from torch import Tensor, nn

from dl_zoo import checkpoints
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.run import run
from dl_zoo.tasks.language_modelling import LanguageModelling
from dl_zoo.tasks.masked_language_modelling import MaskedLanguageModelling
from dl_zoo.tasks.tagging import Tagging

V = 11  # vocabulary


class Bigram(nn.Module):
    """The next token from the newest alone: (B, T) -> ((B, T, V), state)."""

    def __init__(self, vocab_size: int = V):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.table(tokens), state


class Bare(Bigram):
    def forward(self, tokens: Tensor, state: Any = None) -> Any:
        return self.table(tokens)


def made(kind: Any, net: nn.Module | None = None, **arguments: Any) -> Any:
    optimizer: Any = torch.optim.SGD
    torch.manual_seed(0)
    return kind(net or Bigram(), lambda parameters: optimizer(parameters, lr=0.5), **arguments)


def tokens(rows: int = 4, length: int = 6, seed: int = 1) -> Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


def batch(ignored: float = 0.3, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs, and targets of which some do not count."""
    targets = tokens(seed=seed + 100)
    away = torch.rand(targets.shape, generator=torch.Generator().manual_seed(seed)) < ignored
    return tokens(seed=seed), targets.masked_fill(away, -100)


def by_hand(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> list[float]:
    """- log p of each token that counts, one by one."""
    losses = []
    for row, wanted in zip(logits.flatten(0, 1), targets.flatten().tolist(), strict=True):
        if wanted != -100:
            log_p = row - row.exp().sum().log()
            losses.append(-((1 - smoothing) * log_p[wanted] + smoothing * log_p.mean()).item())
    return losses


def validated(task: Any, batches: list[Any]) -> dict[str, float]:
    """The metrics of a whole pass, by Lightning's own loop."""
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # Lightning's of few workers
        trainer.validate(task, torch.utils.data.DataLoader(batches, batch_size=None), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


# ---- the next token ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_the_tokens_that_count(smoothing: float) -> None:
    task, (inputs, targets) = made(LanguageModelling, label_smoothing=smoothing).train(), batch()
    measured = task.measure((inputs, targets))
    with torch.no_grad():
        losses, plain = (by_hand(task.net.table(inputs), targets, share) for share in (smoothing, 0.0))
        right = (task.net.table(inputs).argmax(2) == targets).sum()
    assert int(measured.items) == len(losses) < targets.numel()
    assert measured.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert measured.sums["loss"].item() == pytest.approx(sum(losses), rel=1e-5)
    assert measured.sums["acc"] == right
    assert measured.output.shape == (4, 6, V)
    assert not measured.output.requires_grad
    if smoothing:
        assert measured.sums["nll"].item() == pytest.approx(sum(plain), rel=1e-5)
    assert ("nll" in measured.sums) == bool(smoothing)


def test_smoothing_is_for_training_alone() -> None:
    task = made(LanguageModelling, label_smoothing=0.5)
    plain = made(LanguageModelling)
    assert_same(task.eval().measure(batch()).sums, plain.eval().measure(batch()).sums)
    assert task.train().measure(batch()).loss > plain.train().measure(batch()).loss


def test_what_does_not_count_has_no_gradient() -> None:
    task = made(LanguageModelling).train()
    inputs, targets = torch.tensor([[3, 4, 5]]), torch.tensor([[1, -100, 2]])
    task.measure((inputs, targets)).loss.backward()
    moved = task.net.table.weight.grad.abs().sum(1)
    assert moved[[3, 5]].min() > 0
    assert moved.sum() == moved[[3, 5]].sum()


def test_a_batch_in_which_nothing_counts_is_0_and_not_nan() -> None:
    task = made(LanguageModelling).train()
    measured = task.measure((tokens(), torch.full((4, 6), -100)))
    measured.loss.backward()
    assert measured.loss == 0
    assert measured.items == 0
    assert not task.net.table.weight.grad.any()


@pytest.mark.parametrize("net", [Bigram(), Bare()], ids=["with a state", "without"])
def test_means_over_batches_of_unequal_size_are_exact(net: nn.Module) -> None:
    task = made(LanguageModelling, net, characters=True)
    one, other = batch(seed=1), (tokens(2, 9, seed=5), tokens(2, 9, seed=6))
    metrics = validated(task, [one, other])
    with torch.no_grad():
        losses = [loss for x, y in (one, other) for loss in by_hand(task.net.table(x), y)]
    mean = sum(losses) / len(losses)
    assert metrics["val/loss"] == pytest.approx(mean, rel=1e-6)
    assert metrics["val/ppl"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert metrics["val/bpc"] == pytest.approx(mean / math.log(2), rel=1e-6)
    assert set(metrics) == {"val/loss", "val/ppl", "val/bpc", "val/acc"}


def test_bits_a_character_are_of_characters_only_and_perplexity_knows_no_smoothing() -> None:
    means = {"loss": 2.0, "acc": 0.5, "nll": 1.0}
    assert made(LanguageModelling).derive(means) == means | {"ppl": math.exp(1.0)}
    for characters in (True, "characters"):
        assert made(LanguageModelling, characters=characters).derive(means)["bpc"] == 1 / math.log(2)
    assert "bpc" not in made(LanguageModelling, characters="bpe").derive(means)
    assert made(LanguageModelling).derive({}) == {}
    assert math.isfinite(made(LanguageModelling).derive({"loss": 1e6})["ppl"])


@pytest.mark.parametrize("kind", [LanguageModelling, Tagging])
def test_a_share_that_is_none_is_told(kind: Any) -> None:
    with pytest.raises(UserError, match=r"task.label_smoothing=1.0: must be at least 0 and below 1"):
        made(kind, label_smoothing=1.0)


def test_half_precision_does_not_round_the_sums() -> None:
    task, (inputs, targets) = made(LanguageModelling).eval(), (tokens(64, 64), tokens(64, 64, 2))
    exact = task.measure((inputs, targets)).sums["loss"]
    assert task.bfloat16().measure((inputs, targets)).sums["loss"].item() == pytest.approx(exact.item(), rel=1e-3)


def test_it_learns_and_works_on_meta() -> None:
    task = made(LanguageModelling).train()
    optimizer = task.make_optimizer(task.parameters())
    x = torch.arange(V).repeat(3)[None]  # after each token the next one
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        measured = task.measure((x[:, :-1], x[:, 1:]))
        (measured.loss * 10).backward()
        optimizer.step()
        first = first or measured.loss.item()
    assert first > 2
    assert measured.loss < 0.1
    assert measured.sums["acc"] == measured.items
    task.to("meta").measure((x.to("meta"), x.to("meta"))).loss.backward()


# ---- hidden tokens -------------------------------------------------------------------------------------------------


def masked(**arguments: Any) -> Any:
    return made(MaskedLanguageModelling, Bare(arguments.get("vocab_size", V)), **{"vocab_size": V, **arguments})


def test_the_shares_are_the_papers_within_one_per_cent() -> None:
    size, mask = 1000, 999
    task = masked(vocab_size=size, pad_id=0).train()
    torch.manual_seed(7)
    text = torch.randint(4, mask, (400, 1000))
    seen, targets = task.hidden(text)
    chosen = targets != -100
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.0015)
    assert torch.equal(targets[chosen], text[chosen])
    assert torch.equal(seen[~chosen], text[~chosen])
    of_chosen = seen[chosen]
    is_mask, stays = of_chosen == mask, of_chosen == text[chosen]
    assert is_mask.float().mean() == pytest.approx(0.8, abs=0.008)
    assert stays.float().mean() == pytest.approx(0.1 + 0.1 / 995, abs=0.004)
    others = of_chosen[~is_mask & ~stays]
    assert len(others) / len(of_chosen) == pytest.approx(0.1, abs=0.004)
    counts = others.bincount(minlength=size).float()
    assert counts[:4].sum() == counts[mask] == 0
    assert counts[4:mask].count_nonzero() > 0.98 * 995  # 6 of each: all but e^-6 of them occur
    assert counts[4:mask].var() == pytest.approx(counts[4:mask].mean().item(), rel=0.3)  # as of Poisson's


@pytest.mark.parametrize("arguments", [{"pad_id": 0}, {"pad_id": 5}, {"special": [7, 8], "mask_id": 2}])
def test_special_tokens_are_never_hidden_nor_drawn(arguments: dict[str, Any]) -> None:
    task = masked(share=1.0, random=1.0, masked=0.0, **arguments).train()
    kept = {*arguments.get("special", (0, 1, 2, 3)), arguments.get("pad_id") or 0, task.mask_id}
    kept -= {0} if "special" in arguments else set()
    text = torch.arange(V).repeat(200, 1)
    seen, targets = task.hidden(text)
    special = torch.tensor(sorted(kept))
    assert torch.equal(seen[:, special], text[:, special])
    assert (targets[:, special] == -100).all()
    rest = [each for each in range(V) if each not in kept]
    assert (targets[:, rest] == text[:, rest]).all()  # share 1: all others are asked
    assert set(seen[:, rest].unique().tolist()) == set(rest)


def test_without_padding_only_the_mask_is_special() -> None:
    assert masked().ordinary.tolist() == list(range(V - 1))
    assert masked(mask_id=3).ordinary.tolist() == [each for each in range(V) if each != 3]


def test_training_draws_from_torchs_own_generator() -> None:
    task = masked(share=0.5).train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = task.hidden(tokens(8, 20)), task.hidden(tokens(8, 20))
    assert not torch.equal(first[1], second[1])
    torch.set_rng_state(state)  # what a checkpoint keeps
    assert_same((first, second), (task.hidden(tokens(8, 20)), task.hidden(tokens(8, 20))))


def test_evaluation_asks_the_same_questions_each_time_and_others_in_each_batch() -> None:
    task, text = masked(share=0.5), tokens(8, 20)
    asked: list[Tensor] = []
    task.net.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].clone()))
    pairs = [(text, text), (text, text)]
    first, again = validated(task, pairs), validated(task, pairs)
    assert_same(first, again)
    assert torch.equal(asked[0], asked[2])
    assert torch.equal(asked[1], asked[3])
    assert not torch.equal(asked[0], asked[1])
    assert set(first) == {"val/loss", "val/ppl", "val/acc"}


def test_evaluation_leaves_torchs_own_generator_alone() -> None:
    task, state = masked().eval(), torch.get_rng_state()
    first = task.hidden(tokens())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert_same(task.hidden(tokens()), first)


def test_the_loss_is_of_the_chosen_tokens_and_the_batchs_targets_are_not_looked_at() -> None:
    task = masked(share=0.4).eval()
    text = tokens(8, 20)
    seen, wanted = task.hidden(text)
    measured = task.measure((text, None))
    with torch.no_grad():
        losses = by_hand(task.net.table(seen), wanted)
    assert int(measured.items) == len(losses)
    assert measured.sums["loss"].item() == pytest.approx(sum(losses), rel=1e-5)
    assert measured.sums["acc"] == (task.net.table(seen).argmax(2) == wanted).sum()


def test_a_batch_in_which_nothing_is_chosen_is_no_nan() -> None:
    task = masked(share=1e-9).train()
    assert task.measure((tokens(1, 2), None)).loss == 0


def test_a_checkpoint_holds_nothing_of_the_task() -> None:
    assert list(masked().state_dict()) == ["net.table.weight"]
    task = masked()
    task.to("meta").train().measure((tokens().to("meta"), None)).loss.backward()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mask_id": V}, "task.mask_id=11: must be an id of the vocabulary, from 0 to 10"),
        ({"share": 0.0}, "task.share=0.0: must be above 0 and at most 1"),
        ({"masked": 0.8, "random": 0.3}, "at most 1 together"),
        ({"vocab_size": 5, "pad_id": 0}, "a vocabulary of 5 has no token beside these to hide"),
    ],
)
def test_numbers_that_are_none_are_told(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        masked(**arguments)


# ---- one label a token ---------------------------------------------------------------------------------------------


class Given(nn.Module):
    """The answers are the inputs, as logits; with a state, as a recurrent net's."""

    def forward(self, labels: Tensor) -> tuple[Tensor, None]:
        return 9.0 * F.one_hot(labels, V).float(), None


def test_sequences_count_as_exact_when_every_token_that_counts_is_right() -> None:
    task = made(Tagging, Given())
    targets = tokens(4, 6)
    answers = targets.clone()
    answers[1, 2] = (answers[1, 2] + 1) % V  # wrong, and counts
    answers[2, 3] = (answers[2, 3] + 1) % V  # wrong, and does not
    targets[2, 3] = targets[2, 4] = -100
    targets[3] = -100  # nothing counts: no sequence
    metrics = validated(task, [(answers[:3], targets[:3]), (answers[3:], targets[3:])])
    assert metrics["val/exact"] == pytest.approx(2 / 3)
    assert metrics["val/acc"] == pytest.approx(15 / 16)
    assert metrics["val/error"] == pytest.approx(1 / 16)
    assert set(metrics) == {"val/loss", "val/acc", "val/error", "val/exact"}


def test_tagging_hands_tokens_to_what_counts_answers() -> None:
    task, (inputs, targets) = made(Tagging).eval(), batch()
    shown = task.__class__._evaluate(task_with_step(task), (inputs, targets), 0)
    assert shown["output"].shape == (24, V)
    assert torch.equal(shown["targets"], targets.flatten())


def task_with_step(task: Any) -> Any:
    task._trainer = SimpleNamespace(global_step=0)  # all that `_evaluate` asks of a trainer
    return task


def test_the_loss_of_tags_is_that_of_tokens() -> None:
    tagging, modelling = (made(kind, label_smoothing=0.1).train() for kind in (Tagging, LanguageModelling))
    one, other = tagging.measure(batch()), modelling.measure(batch())
    assert_same(one.loss, other.loss)
    assert_same({name: one.sums[name] for name in other.sums}, other.sums)


def test_what_is_shown_while_it_runs_are_means_over_tokens_alone() -> None:
    task = made(Tagging)
    task._newest_train = {"loss": 1.0, "acc": 0.5, "exact": 0.1, "sequences": 0.2}
    task._newest_evaluation = {"val/loss": 1.0, "val/exact": 0.1}
    assert task.progress() == {"loss": 1.0, "acc": 0.5, "val/loss": 1.0}


def test_a_vocabulary_without_a_mask_stops_before_training(cli: Callable[..., Said]) -> None:
    said = cli("train", "model=bert_small", "trainer.max_epochs=1", "trainer=cpu")
    assert one_line(said) == "dl-zoo: no token of these data stands for a gap; set data.mask=true, or task.mask_id"


def test_a_resumed_run_keeps_its_vocabulary_though_the_text_has_changed(tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("the cat sat on the mat. " * 60)
    words = ["model=gpt_char", "model.width=8", "model.depth=1", "model.heads=1", "data=text_file", f"data.path={text}"]
    words += ["data.unit=bpe", "data.merges=4", "data.context=8", "trainer=cpu", "pictures=false", "logger=none"]
    first = run(compose([*words, "trainer.max_epochs=1", "run_dir=own"]))
    before = checkpoints.read(checkpoints.find(first.folder, "last"))["dl_zoo"]["vocabulary"]
    text.write_text("a dog ran by the log. " * 60)
    second = run(compose([*words, "trainer.max_epochs=2", "resume=own"]))
    assert second.metrics["epoch"] == 2
    assert checkpoints.read(checkpoints.find(first.folder, "last"))["dl_zoo"]["vocabulary"] == before
