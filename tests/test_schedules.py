"""Learning rates at the steps that matter, under every optimizer; and what a plateau does to a run and its resume."""

import inspect
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import instantiate
from pytorch_lightning.utilities.types import LRSchedulerTypeTuple
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from dl_zoo import schedules
from dl_zoo.errors import UserError
from dl_zoo.schedules import Plateau, cosine, inverse_sqrt, onecycle, plateau, step, warmup

CONFIGS = Path(__file__).parents[1] / "configs" / "scheduler"
FOLLOWING_THE_STEP: list[Callable[..., LRScheduler]] = [cosine, step, warmup, inverse_sqrt, onecycle]
SCHEDULES = [*FOLLOWING_THE_STEP, plateau]
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "SGD": SGD,
    "SGD with momentum": lambda groups, lr: SGD(groups, lr, momentum=0.9),
    "Adagrad": Adagrad,
    "RMSprop": RMSprop,
    "RMSprop with momentum": lambda groups, lr: RMSprop(groups, lr, momentum=0.9),
    "Adam": Adam,
    "AdamW": AdamW,
}


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(2))


def advance(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum((p.square().sum() for group in optimizer.param_groups for p in group["params"]), torch.zeros(()))
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    scheduler.step()


def rates(make: Callable[..., LRScheduler], total_steps: int, **numbers: Any) -> list[float]:
    """The learning rate of each step of a run, as a share of the optimizer's."""
    optimizer = SGD([parameter()], 2.0)
    scheduler = make(optimizer, total_steps=total_steps, **numbers)
    used = []
    for _ in range(total_steps):
        used.append(optimizer.param_groups[0]["lr"] / 2.0)
        advance(optimizer, scheduler)
    return used


# ---- what follows from the step ----------------------------------------------------------------------------------


def test_step_at_its_milestones() -> None:
    used = rates(step, 64)
    assert used == pytest.approx([1.0] * 32 + [0.1] * 16 + [0.01] * 16)
    assert rates(step, 10, milestones=[0.3], gamma=0.5) == pytest.approx([1.0] * 3 + [0.5] * 7)
    assert rates(step, 10, milestones=[]) == [1.0] * 10
    assert rates(step, 10, milestones=[0.5], warmup=0.2) == pytest.approx([0.5] + [1.0] * 4 + [0.1] * 5)


def test_warmup_climbs_and_stays() -> None:
    assert rates(warmup, 100) == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 96)
    assert rates(warmup, 4, warmup=1) == [0.25, 0.5, 0.75, 1.0]
    assert rates(warmup, 3) == rates(warmup, 3, warmup=0) == [1.0] * 3  # a climb of less than a step


def test_inverse_sqrt_is_the_papers() -> None:
    """d_model^-0.5 min(t^-0.5, t w^-1.5) of 100,000 steps, by its factor; then a run."""
    d_model, w, total = 512, 4000, 100_000
    peak = (d_model * w) ** -0.5
    for t in (1, 2000, 3999, 4000, 4001, 16_000, 100_000):
        papers = d_model**-0.5 * min(t**-0.5, t * w**-1.5)
        assert peak * schedules.inverse_sqrt_factor(t - 1, total) == pytest.approx(papers, rel=1e-12)
    assert peak == pytest.approx(6.99e-4, rel=1e-3)
    used = rates(inverse_sqrt, 100)
    assert used[:4] == [0.25, 0.5, 0.75, 1.0]
    assert used[4:] == pytest.approx([math.sqrt(4 / t) for t in range(5, 101)])
    assert rates(inverse_sqrt, 4, warmup=0) == pytest.approx([t**-0.5 for t in (1, 2, 3, 4)])


def test_cosine_climbs_then_falls() -> None:
    assert rates(cosine, 4) == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    used = rates(cosine, 100, warmup=0.1, final=0.2)
    assert used[:11] == pytest.approx([t / 10 for t in range(1, 11)] + [1.0])
    assert used[55] == pytest.approx(0.6)  # halfway between 1 and 0.2
    assert used[11:] == sorted(used[11:], reverse=True)
    assert schedules.cosine_factor(100, 100, warmup=0.1, final=0.2) == pytest.approx(0.2)


def test_onecycle_at_its_corners() -> None:
    used = rates(onecycle, 100)
    assert (used[0], used[29], used[99]) == pytest.approx((1 / 25, 1.0, 1 / 25e4))
    assert used.index(max(used)) == 29
    for total, peak_at in product((1, 2, 10), (0, 0.1, 0.5, 0.99)):  # 0.1 of 10 steps: a climb of one
        assert all(0 < rate <= 1 for rate in rates(onecycle, total, peak_at=peak_at))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", SCHEDULES)
def test_groups_keep_their_proportion(make: Callable[..., LRScheduler], optimizer: str) -> None:
    """Every schedule with every optimizer, and one factor for rates of 0.3 and 0.01."""
    groups: list[dict[str, Any]] = [{"params": [parameter()], "lr": 0.3}, {"params": [parameter()], "lr": 0.01}]
    built = OPTIMIZERS[optimizer](groups, lr=1.0)
    scheduler = make(built, total_steps=20)
    expected = rates(make, 20)
    for factor in expected:
        assert [group["lr"] for group in built.param_groups] == pytest.approx([0.3 * factor, 0.01 * factor])
        advance(built, scheduler)


@pytest.mark.parametrize("make", SCHEDULES)
def test_lbfgs(make: Callable[..., LRScheduler]) -> None:
    """It takes one group only, and several gradients a step."""
    optimizer = LBFGS([parameter()], lr=0.5, max_iter=2)
    scheduler = make(optimizer, total_steps=20)
    for factor in rates(make, 20):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * factor)
        advance(optimizer, scheduler)


@pytest.mark.parametrize("make", FOLLOWING_THE_STEP)
def test_resumed_in_the_middle(make: Callable[..., LRScheduler], tmp_path: Path) -> None:
    expected = rates(make, 20)
    optimizer = SGD([parameter()], 2.0)
    scheduler = make(optimizer, total_steps=20)
    for _ in range(13):
        advance(optimizer, scheduler)
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "states")
    optimizer = SGD([parameter()], 2.0)
    scheduler = make(optimizer, total_steps=20)
    states = torch.load(tmp_path / "states", weights_only=True)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    for factor in expected[13:]:
        assert optimizer.param_groups[0]["lr"] == 2.0 * factor
        advance(optimizer, scheduler)


# ---- the momentum of onecycle ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD([parameter()], 0.1, momentum=0.9),
        RMSprop([parameter()], 0.1, momentum=0.9),
        Adam([parameter()], 0.1),
        AdamW([parameter()], 0.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_onecycle_moves_momentum(optimizer: Optimizer) -> None:
    scheduler = onecycle(optimizer, total_steps=100)
    seen = []
    for _ in range(100):
        seen.append(schedules.momentum(optimizer.param_groups[0]))
        advance(optimizer, scheduler)
    assert (seen[0], seen[29], seen[99]) == pytest.approx((0.95, 0.85, 0.95))


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD([parameter()], 0.1),
        SGD(
            [{"params": [parameter()], "momentum": 0.9}, {"params": [parameter()], "momentum": 0.0}], 0.1
        ),  # one of two groups
        RMSprop([parameter()], 0.1),
        Adam([parameter()], 0.1, betas=(0.0, 0.999)),
        Adagrad([parameter()], 0.1),
        LBFGS([parameter()], 0.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_onecycle_adds_no_momentum(optimizer: Optimizer) -> None:
    before = [schedules.momentum(group) for group in optimizer.param_groups]
    scheduler = onecycle(optimizer, total_steps=10)
    for _ in range(10):
        assert [schedules.momentum(group) for group in optimizer.param_groups] == before
        advance(optimizer, scheduler)


# ---- plateau -----------------------------------------------------------------------------------------------------


def observed(scheduler: Plateau, values: list[float]) -> list[float]:
    """The rate after each epoch of such a metric."""
    used = []
    for value in values:
        advance(scheduler.optimizer, scheduler)
        scheduler.observe({"val/acc": torch.tensor(0.5), "val/loss": torch.tensor(value)})
        used.append(scheduler.get_last_lr()[0])
    return used


def test_plateau_waits_for_its_patience() -> None:
    scheduler = plateau(SGD([parameter()], 1.0), total_steps=99, patience=2)
    used = observed(scheduler, [3.0, 2.0, 2.0, 2.5, 2.0, 1.9, 2.0, 2.0, 2.0])
    assert used == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01])  # 2.0 is no better than 2.0; 1.9 starts the count anew


def test_plateau_threshold_and_mode() -> None:
    scheduler = plateau(SGD([parameter()], 1.0), total_steps=99, patience=0, factor=0.5, threshold=0.1)
    assert observed(scheduler, [1.0, 0.91, 0.89]) == [1.0, 0.5, 0.5]
    scheduler = plateau(SGD([parameter()], 1.0), total_steps=99, patience=0, mode="max")
    assert observed(scheduler, [1.0, 2.0, 1.5]) == pytest.approx([1.0, 1.0, 0.1])
    with pytest.raises(ValueError, match="mode"):
        plateau(SGD([parameter()], 1.0), total_steps=99, mode="least")  # type: ignore[arg-type]


def test_plateau_reduces_every_group() -> None:
    optimizer = Adam([{"params": [parameter()], "lr": 0.3}, {"params": [parameter()], "lr": 0.01}])
    observed(plateau(optimizer, total_steps=9, patience=0), [1.0, 1.0])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.03, 0.001])


def test_plateau_without_its_metric() -> None:
    scheduler = plateau(SGD([parameter()], 1.0), total_steps=9, monitor="val/los")
    with pytest.raises(UserError) as error:
        scheduler.observe({"val/loss": 1.0, "val/acc": 0.5})
    assert str(error.value) == "scheduler.monitor=val/los: there is no such metric; there are val/acc, val/loss"


def test_plateau_is_resumed_exactly(tmp_path: Path) -> None:
    """Stopped at any epoch, through a file that may hold nothing but plain data."""
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    whole = observed(plateau(SGD([parameter()], 1.0), total_steps=9, patience=2), values)
    assert len(set(whole)) == 3
    for stop in range(len(values)):
        scheduler = plateau(SGD([parameter()], 1.0), total_steps=9, patience=2)
        observed(scheduler, values[:stop])
        torch.save([scheduler.optimizer.state_dict(), scheduler.state_dict()], tmp_path / "states")
        optimizer_state, state = torch.load(tmp_path / "states", weights_only=True)
        assert state == scheduler.state_dict()
        resumed = plateau(SGD([parameter()], 1.0), total_steps=9, patience=2)
        resumed.optimizer.load_state_dict(optimizer_state)
        resumed.load_state_dict(state)
        assert resumed.get_last_lr() == scheduler.get_last_lr()
        assert resumed.state_dict() == state
        assert observed(resumed, values[stop:]) == whole[stop:]


class Stalling(pl.LightningModule):
    """A regression whose validation loss is 1 in every epoch; the plateau hears of it at the epoch's end."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.used: list[float] = []  # the rate of each step

    def training_step(self, batch: list[Tensor]) -> Tensor:
        self.used.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor]) -> None:
        self.log("val/loss", torch.ones(()))

    def on_train_epoch_end(self) -> None:
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, Plateau)
        scheduler.observe(self.trainer.callback_metrics)

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.net.parameters(), 0.1)
        scheduler = plateau(optimizer, total_steps=12, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fit(module: Stalling, epochs: int, path: Path | None = None) -> pl.Trainer:
    switches = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    loader = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, log_every_n_steps=1, **switches)  # type: ignore[arg-type]
    trainer.fit(module, loader, loader, ckpt_path=path, weights_only=True)
    return trainer


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_plateau_in_lightning(tmp_path: Path) -> None:
    """Lightning takes it, does not see a ReduceLROnPlateau in it, and a resumed run keeps the reduced rate."""
    torch.manual_seed(0)
    whole = Stalling()
    start = {key: value.clone() for key, value in whole.state_dict().items()}
    trainer = fit(whole, epochs=6)
    config = trainer.lr_scheduler_configs[0]
    assert isinstance(config.scheduler, LRSchedulerTypeTuple)
    assert not isinstance(config.scheduler, ReduceLROnPlateau)
    assert config.reduce_on_plateau is False
    assert whole.used == pytest.approx([0.1] * 6 + [0.01] * 4 + [0.001] * 2)  # two steps an epoch, patience of one

    broken = Stalling()
    broken.load_state_dict(start)
    fit(broken, epochs=4).save_checkpoint(tmp_path / "last.ckpt")
    resumed = Stalling()
    fit(resumed, epochs=6, path=tmp_path / "last.ckpt")
    assert broken.used + resumed.used == whole.used
    assert torch.equal(resumed.net.weight, whole.net.weight)


# ---- what a user may get wrong, and the YAMLs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "numbers", "said"),
    [
        (warmup, {"warmup": 500}, "scheduler.warmup=500: must be a share"),
        (cosine, {"final": -0.1}, "scheduler.final=-0.1: must be a share"),
        (cosine, {"warmup": "long"}, "scheduler.warmup=long: must be a share"),
        (step, {"milestones": [0.5, 30]}, r"scheduler.milestones\[1\]=30: must be a share"),
        (inverse_sqrt, {"warmup": math.nan}, "scheduler.warmup=nan: must be a share"),
        (onecycle, {"peak_at": 1.0}, "scheduler.peak_at=1: must be below 1"),
        (plateau, {"factor": 10}, "scheduler.factor=10: must be a share"),
        (plateau, {"patience": -1}, "scheduler.patience=-1: must be a number of epochs"),
    ],
)
def test_wrong_numbers(make: Callable[..., LRScheduler], numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(SGD([parameter()], 1.0), total_steps=10, **numbers)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_yaml(path: Path) -> None:
    written = yaml.safe_load(path.read_text()) or {}
    if path.stem == "none":
        assert written == {}
        return
    function = getattr(schedules, path.stem)
    parameters = list(inspect.signature(function).parameters.values())[2:]  # after optimizer and total_steps
    numbers = {key: value for key, value in written.items() if not key.startswith("_")}
    assert numbers == {p.name: list(p.default) if isinstance(p.default, tuple) else p.default for p in parameters}
    bound = instantiate(written, _convert_="all")
    assert bound.func is function
    bound(SGD([parameter()], 1.0), total_steps=10)
