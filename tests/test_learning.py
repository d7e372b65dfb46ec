"""What optimizers and regularizers claim to do to the weights of a run, seen in runs."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import SMALL, assert_same_run, trained
from torch import Tensor, nn

import dl_zoo.run
from dl_zoo import checkpoints
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.compose import compose
from dl_zoo.data.memory import MemoryData
from dl_zoo.errors import UserError
from dl_zoo.optimizers import build_optimizer
from dl_zoo.options import names, read
from dl_zoo.regularizers.gradient_noise import GradientNoise
from dl_zoo.regularizers.max_norm import max_norm
from dl_zoo.run import Result, run
from dl_zoo.tasks.task import Task

MLP = ["model=mlp", "model.width=32", "optimizer=sgd", "trainer.max_epochs=1"]


class Watch(pl.Callback):
    """Copies of the net after every step, and of the gradients that the optimizer saw."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.weights.append({key: value.clone() for key, value in pl_module.net.state_dict().items()})


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Result, Watch]]:
    """Train with one more callback behind the others."""

    def call(*overrides: str) -> tuple[Result, Watch]:
        watch, original = Watch(), dl_zoo.run.build_callbacks
        monkeypatch.setattr(dl_zoo.run, "build_callbacks", lambda cfg: [*original(cfg), watch])
        result = trained(*overrides)
        monkeypatch.setattr(dl_zoo.run, "build_callbacks", original)
        return result, watch

    return call


def last(result: Result) -> dict[str, Tensor]:
    return checkpoints.net_state(checkpoints.read(checkpoints.find(result.folder, "last")))


def squares(state: dict[str, Tensor]) -> float:
    return sum(float(value.square().sum()) for value in state.values() if value.dim() > 1)


# ---- optimizers -------------------------------------------------------------------------------------------------


NEEDS = {  # besides batches of 64 and five epochs of a net with hidden layers
    "lbfgs": ["data.batch_size=2000", "optimizer.max_iter=10"],
    "weight_perturbation": ["model.depth=0", "optimizer.lr=0.003", "trainer.max_epochs=90"],  # slow in many weights
}


@pytest.mark.parametrize("name", names("optimizer"))
def test_every_optimizer_learns_digits(name: str) -> None:
    usual = ["model=mlp", "model.width=64", f"optimizer={name}", "trainer.max_epochs=5", "data.batch_size=64"]
    result = trained(*usual, *NEEDS.get(name, []))
    assert result.metrics["test/acc"] > 0.85, result.metrics


@pytest.mark.parametrize("name", [n for n in names("optimizer") if "weight_decay" in read("optimizer", n)])
def test_biases_and_norms_are_spared_by_the_switch(name: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    texts = [f"optimizer={name}", "optimizer.weight_decay=0.3"]
    assert [g["weight_decay"] for g in build_optimizer(compose(texts).optimizer)(net.parameters()).param_groups] == [
        0.3
    ]
    spared = build_optimizer(compose([*texts, "optimizer.decay_biases_and_norms=false"]).optimizer)(net.parameters())
    by_rate = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in spared.param_groups}
    assert by_rate == {0.3: {2}, 0.0: {1}}
    assert sum(len(group["params"]) for group in spared.param_groups) == 6


def test_lbfgs_logs_the_loss_before_its_step_and_takes_whole_batches() -> None:
    full = [*MLP, "optimizer=lbfgs", "data.batch_size=2000", "trainer.log_every_n_steps=1", "logger=csv"]
    result = trained(*full)
    first = float((result.folder / "metrics.csv").read_text().splitlines()[1].split(",")[1])
    assert first == pytest.approx(torch.tensor(10.0).log().item(), abs=0.3)  # an untrained net guesses
    with pytest.raises(UserError, match="whole batches"):
        trained(*full, "trainer.accumulate_grad_batches=2")


# ---- regularizers that shrink -----------------------------------------------------------------------------------


def test_weight_decay_and_l2_shrink_and_are_the_same_under_sgd() -> None:
    plain = last(trained(*MLP))
    decayed = last(
        trained(
            *MLP,
            "regularizer=weight_decay",
            "regularizer.weight_decay.rate=0.1",
            "optimizer.decay_biases_and_norms=false",
        )
    )
    ridge = last(trained(*MLP, "regularizer=l2", "regularizer.l2.strength=0.05"))
    assert squares(decayed) < 0.95 * squares(plain)
    for key, value in ridge.items():
        torch.testing.assert_close(value, decayed[key], rtol=1e-4, atol=1e-6)


def test_l1_makes_a_net_sparse_where_l2_only_makes_it_small() -> None:
    def nearly_zero(result: Result) -> float:
        weights = torch.cat([v.flatten() for v in last(result).values() if v.dim() > 1]).abs()
        return float((weights < 0.01 * weights.max()).float().mean())

    lasso = nearly_zero(trained(*MLP, "trainer.max_epochs=10", "regularizer=l1", "regularizer.l1.strength=0.005"))
    ridge = nearly_zero(trained(*MLP, "trainer.max_epochs=10", "regularizer=l2", "regularizer.l2.strength=0.005"))
    assert lasso > 0.2
    assert lasso > 4 * ridge


def test_max_norm_holds_after_every_step(watched: Callable[..., tuple[Result, Watch]]) -> None:
    def longest(*overrides: str) -> float:
        _, watch = watched(*MLP, "optimizer.lr=0.5", *overrides)
        return max(float(v.flatten(1).norm(dim=1).max()) for w in watch.weights for v in w.values() if v.dim() > 1)

    assert longest() > 0.7
    assert longest("regularizer=max_norm", "regularizer.max_norm.bound=0.4") <= 0.4 + 1e-6


def test_max_norm_leaves_short_rows_alone() -> None:
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    max_norm(net, 1.0)
    torch.testing.assert_close(net.weight.data, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


# ---- dropout ----------------------------------------------------------------------------------------------------


def test_dropout_zeroes_its_share_in_training_alone() -> None:
    from dl_zoo import trust

    torch.manual_seed(0)
    cfg = compose(["model=mlp", "regularizer=[dropout,input_dropout]", "regularizer.dropout.rate=0.3"])
    net = trust.build(compose_resolved(cfg).model)
    units: list[Tensor] = []
    net.dropout.register_forward_hook(lambda _, inputs, output: units.append((output == 0).float()[inputs[0] != 0]))
    net.input_dropout.register_forward_hook(lambda _, inputs, output: units.append((output == 0).float()))
    net(torch.ones(64, 64))
    assert [round(float(each.mean()), 1) for each in units] == [0.2, 0.3, 0.3]
    units.clear()
    net.eval()(torch.ones(64, 64))
    assert sum(float(each.sum()) for each in units) == 0


def compose_resolved(cfg: Any) -> Any:
    from dl_zoo.compose import resolve

    return resolve(cfg, dict(cfg.data.dims))


# ---- the gradient -----------------------------------------------------------------------------------------------


def steps(watch: Watch) -> list[Tensor]:
    """Every step's change, all parameters in one vector."""
    flat = [torch.cat([value.flatten() for value in weights.values()]) for weights in watch.weights]
    return [after - before for before, after in pairwise(flat)]


def test_clipping_bounds_the_norm_or_every_entry(watched: Callable[..., tuple[Result, Watch]]) -> None:
    base = [*MLP, "optimizer.lr=1.0"]
    free = max(float(step.norm()) for step in steps(watched(*base)[1]))
    by_norm = steps(watched(*base, "regularizer=clip_norm", "regularizer.clip_norm.norm=0.1")[1])
    by_value = steps(watched(*base, "regularizer=clip_value", "regularizer.clip_value.value=0.001")[1])
    assert free > 0.5
    assert max(float(step.norm()) for step in by_norm) == pytest.approx(0.1, rel=1e-3)
    assert max(float(step.abs().max()) for step in by_value) == pytest.approx(0.001, rel=1e-2)


def test_gradient_noise_has_its_variance_and_fades() -> None:
    class Fake:
        net = nn.Linear(300, 300)
        global_step = 0

    torch.manual_seed(0)
    for step in (0, 99):
        Fake.global_step = step
        Fake.net.weight.grad = torch.full((300, 300), 2.0)
        GradientNoise(eta=0.3, gamma=0.55).on_before_optimizer_step(Fake, Fake, None)
        assert float(Fake.net.weight.grad.mean()) == pytest.approx(2.0, abs=0.01)
        assert float(Fake.net.weight.grad.var()) == pytest.approx(0.3 / (1 + step) ** 0.55, rel=0.02)
        assert Fake.net.bias.grad is None


# ---- averages of the weights -------------------------------------------------------------------------------------


def test_ema_is_its_closed_form_and_is_what_is_tested(watched: Callable[..., tuple[Result, Watch]]) -> None:
    result, watch = watched(*MLP, "regularizer=ema", "regularizer.ema.decay=0.9")
    average = {key: value.clone() for key, value in watch.weights[0].items()}
    for weights in watch.weights[1:]:
        average = {key: 0.9 * average[key] + 0.1 * weights[key] for key in average}
    for key, value in last(result).items():
        torch.testing.assert_close(value, average[key], rtol=1e-4, atol=1e-6)
        assert not torch.equal(value, watch.weights[-1][key])
    assert evaluate(result.folder)[0]["test/acc"] == result.metrics["test/acc"]


def test_swa_is_the_mean_of_the_late_epochs_and_validates_what_it_saves(
    watched: Callable[..., tuple[Result, Watch]],
) -> None:
    settings = [*MLP, "trainer.max_epochs=4", "regularizer=swa", "regularizer.swa.start=0.5"]
    result, watch = watched(*settings)
    per_epoch = len(watch.weights) // 4
    late = [watch.weights[per_epoch * epoch - 1] for epoch in (3, 4)]
    for key, value in last(result).items():
        torch.testing.assert_close(value, (late[0][key] + late[1][key]) / 2, rtol=1e-4, atol=1e-6)
    assert evaluate(result.folder, "val", "last")[0]["val/loss"] == pytest.approx(result.metrics["val/loss"], abs=1e-6)


def test_before_it_begins_an_average_is_the_net(watched: Callable[..., tuple[Result, Watch]]) -> None:
    result, _ = watched(*MLP, "trainer.max_epochs=2", "regularizer=swa", "regularizer.swa.start=0.99")
    plain, _ = watched(*MLP, "trainer.max_epochs=2")
    previous = checkpoints.net_state(checkpoints.read(checkpoints.find(result.folder, "previous")))
    other = checkpoints.net_state(checkpoints.read(checkpoints.find(plain.folder, "previous")))
    assert all(torch.equal(value, other[key]) for key, value in previous.items())


# ---- early stopping, schedules that watch ------------------------------------------------------------------------


def test_early_stopping_stops_and_the_run_is_finished() -> None:
    settings = ["model=mlp", "optimizer=sgd", "optimizer.lr=0.0", "regularizer=early_stopping"]
    settings += ["regularizer.early_stopping.patience=2", "trainer.max_epochs=9"]
    result = trained(*settings)
    assert result.metrics["epoch"] == 3  # the first is best; two more without an improvement
    again = run(compose([*SMALL, "pictures=false", *settings, f"resume={result.folder}"]))
    assert again.metrics == result.metrics
    (result.folder / "metrics.json").unlink()  # as if killed between the last checkpoint and the end
    again = run(compose([*SMALL, "pictures=false", *settings, f"resume={result.folder}"]))
    for name in ("epoch", "step", "test/loss", "test/acc"):
        assert again.metrics[name] == result.metrics[name]


def test_plateau_lowers_the_rate_where_nothing_improves() -> None:
    settings = ["model=mlp", "optimizer=sgd", "optimizer.lr=1.0e-5", "scheduler=plateau", "scheduler.patience=1"]
    result = trained(*settings, "scheduler.threshold=0.01", "trainer.max_epochs=6", "logger=csv")
    with (result.folder / "metrics.csv").open() as file:
        rates = [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]]
    assert rates[0] == 1e-5
    assert rates[-1] == pytest.approx(1e-7)  # after epochs 3 and 5


# ---- exact resume ------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """After so many steps the run is asked to stop, as by a scheduler's SIGTERM."""
    original = Task.settle

    def call(step: int) -> None:
        def settle(self: Task) -> None:
            original(self)
            if self.trainer.training and self.trainer.global_step == step and not os.environ.get("STOPPED"):
                monkeypatch.setenv("STOPPED", "yes")
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Task, "settle", settle)

    yield call
    monkeypatch.undo()


@pytest.mark.parametrize(
    "extra",
    [
        ["regularizer=[ema,gradient_noise,mixup,max_norm]", "regularizer.ema.decay=0.9"],
        ["regularizer=[swa,clip_norm,cutmix]", "regularizer.swa.start=0.3", "optimizer=nesterov"],
        ["scheduler=plateau", "scheduler.patience=0", "optimizer=adamw", "optimizer.decay_biases_and_norms=false"],
        ["optimizer=lbfgs", "optimizer.max_iter=3", "regularizer=[early_stopping,crop_flip]"],
    ],
    ids=["ema", "swa", "plateau", "lbfgs"],
)
def test_stopped_and_continued_equals_never_stopped(extra: list[str], stopped_at: Callable[[int], None]) -> None:
    settings = [*SMALL, "pictures=false", "model=mlp", "model.width=16", "trainer.max_epochs=3", *extra]
    whole = run(compose([*settings, "run_dir=whole"]))
    stopped_at(13)  # in the second epoch of nine steps
    assert run(compose([*settings, "run_dir=broken"])).status == "interrupted"
    assert run(compose([*settings, "run_dir=broken", "resume=auto"])).status == "finished"
    assert_same_run(whole.folder, Path("broken"))


def test_mixed_targets_are_probabilities_and_evaluation_is_not_mixed() -> None:
    from dl_zoo import trust

    data: MemoryData = trust.build(compose(["regularizer=[mixup,cutmix]", "data.batch_size=16"]).data)
    data.setup()
    inputs, targets = next(iter(data.train_dataloader()))
    assert targets.shape == (16, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    assert ((targets > 0) & (targets < 1)).any()
    assert next(iter(data.val_dataloader()))[1].dtype == torch.int64
    again = next(
        iter(trust.build(compose(["regularizer=[mixup,cutmix]", "data.batch_size=16"]).data).train_dataloader())
    )
    assert torch.equal(inputs, again[0])


# ---- what went wrong once ----------------------------------------------------------------------------------------


def test_an_average_leaves_whole_numbers_alone() -> None:
    """The 1998 net keeps its connection table as indices; their mean, cut off, would be another table."""
    result = trained("model=lenet5_1998", "model.scale=0.1", "regularizer=ema", "regularizer.ema.decay=0.9")
    assert evaluate(result.folder)[0]["test/acc"] == result.metrics["test/acc"] > 0.5


def test_what_is_laid_out_over_a_runs_length_cannot_be_made_longer() -> None:
    for extra, allowed in ((["regularizer=swa"], False), (["scheduler=plateau"], True), (["scheduler=cosine"], False)):
        words = [*SMALL, "pictures=false", "model=mlp", *extra, f"run_dir={extra[0].partition('=')[2]}"]
        run(compose([*words, "trainer.max_epochs=1"]))
        longer = compose([*words, "trainer.max_epochs=2", "resume=auto"])
        if allowed:
            assert run(longer).metrics["epoch"] == 2
        else:
            with pytest.raises(UserError, match=r"another trainer\.max_epochs"):
                run(longer)


def test_fewer_epochs_do_not_open_a_finished_run_again() -> None:
    words = [*SMALL, "pictures=false", "model=mlp", "run_dir=run", "resume=auto"]
    first = run(compose([*words, "trainer.max_epochs=2"]))
    assert run(compose([*words, "trainer.max_epochs=1"])).metrics == first.metrics


def test_max_norm_leaves_frozen_weights_alone() -> None:
    result = trained("model=mlp", "regularizer=max_norm", "regularizer.max_norm.bound=0.01", "freeze=[layers.0*]")
    weights = last(result)
    assert float(weights["layers.0.weight"].norm(dim=1).max()) > 0.1
    assert float(weights["layers.1.weight"].norm(dim=1).max()) <= 0.01 + 1e-6


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "bce", "triplet"])
def test_confidence_means_something_under_every_loss(loss: str) -> None:
    result = trained("model=mlp", "trainer.max_epochs=6", f"task.loss={loss}")
    evaluate(result.folder)
    with (result.folder / "predictions-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = [float(row["confidence"]) for row in rows if row["target"] == row["prediction"]]
    assert len(right) / len(rows) == pytest.approx(result.metrics["test/acc"])
    assert sum(right) / len(right) > 0.5


def test_a_schedule_that_watches_hears_only_of_epochs_that_validated() -> None:
    words = ["model=mlp", "scheduler=plateau", "+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4"]
    assert trained(*words).metrics["epoch"] == 4


def test_the_best_value_is_kept_with_the_last() -> None:
    result = trained("model=mlp", "optimizer.lr=0.02", "trainer.max_epochs=6")
    assert result.metrics["best"] >= result.metrics["val/acc"]
    assert evaluate(result.folder, "val")[0]["val/acc"] == pytest.approx(result.metrics["best"])


def test_a_cleaned_run_is_not_overwritten() -> None:
    from dl_zoo.commands.clean import main as clean

    result = trained("model=mlp", "run_dir=run")
    clean(["run", "--yes"])
    with pytest.raises(UserError, match="its last checkpoint was deleted"):
        run(compose([*SMALL, "pictures=false", "logger=none", "model=mlp", "trainer.max_epochs=9", "resume=run"]))
    assert evaluate("run")[0]["test/acc"] == result.metrics["test/acc"]


@pytest.mark.parametrize(
    "words",
    [
        ["freeze=['*']"],
        ["regularizer=cutout", "regularizer.cutout.size=0"],
        ["scheduler=cosine", "trainer.max_epochs=-1"],
        ["regularizer=shift", "regularizer.shift.pixels=-1"],
        ["regularizer=rotate", "regularizer.rotate.degrees=null"],
        ["+regularizer.foo=3"],
    ],
    ids=lambda words: words[-1],
)
def test_mistakes_that_leave_nothing_behind(words: list[str]) -> None:
    with pytest.raises(UserError):
        trained(*words)
    assert not os.listdir()
