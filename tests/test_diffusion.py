"""Diffusion on points: the process in closed form, the sampler by a net that is never wrong, a net that learns."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import Said, assert_same_run, one_line
from torch import Tensor, nn

from dl_zoo.compose import compose
from dl_zoo.data.memory import MemoryLoader
from dl_zoo.errors import UserError
from dl_zoo.models.ddpm_points import DDPMPoints
from dl_zoo.probes.forward_process import forward_process
from dl_zoo.run import run
from dl_zoo.tasks.diffusion import Diffusion
from dl_zoo.zoo import load_run

SMALL = ["experiment=ddpm_ring", "model.width=32", "trainer=cpu", "pictures=false", "logger=none", "task.samples=0"]
SMALL += ["data.train_items=2000", "data.eval_items=300"]


def task_of(net: nn.Module, shape: tuple[int, ...] = (1,), **settings: Any) -> Diffusion:
    return Diffusion(net=net, optimizer=torch.optim.Adam, shape=shape, **settings)


class Perfect(nn.Module):
    """The best guess of the noise where every number is normal with `mean` and `deviation`: E[eps | x_t]."""

    def __init__(self, mean: float, deviation: float, kept: Tensor | None = None):
        super().__init__()
        self.mean, self.deviation, self.kept = mean, deviation, torch.ones(1) if kept is None else kept

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        kept = self.kept[t].view(-1, *[1] * (x.ndim - 1))
        return (1 - kept).sqrt() * (x - kept.sqrt() * self.mean) / (kept * self.deviation**2 + 1 - kept)


def perfect(mean: float, deviation: float, **settings: Any) -> Diffusion:
    task = task_of(Perfect(mean, deviation), **settings)
    task.net.kept = torch.tensor(task.kept)
    return task


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the way there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"steps": 1000}, {"schedule": "cosine"}, {"schedule": "cosine", "steps": 7}])
def test_the_closed_form_has_the_moments_of_the_chain(settings: dict[str, Any]) -> None:
    found = forward_process(task_of(nn.Identity(), **settings), None)
    assert found["forward_mean"] < 1e-6
    assert found["forward_variance"] < 1e-6
    assert found["signal_left"] < 0.05, "samples start from noise alone"


def test_a_chain_that_only_adds_noise_is_found_out() -> None:
    found = forward_process(task_of(nn.Identity()), None, shrink=False)
    assert found["forward_mean"] > 0.5
    assert found["forward_variance"] > 1


def test_walked_with_real_noise_it_is_the_closed_form() -> None:
    torch.manual_seed(0)
    task, x = task_of(nn.Identity(), steps=50), torch.full((20_000, 1), 3.0)
    for t, beta in enumerate(task.betas, start=1):
        x = (1 - beta) ** 0.5 * x + beta**0.5 * torch.randn_like(x)
        if t in (1, 10, 25, 50):
            assert abs(x.mean() - 3 * task.signal[t]) < 4 * task.spread[t] / 20_000**0.5
            assert abs(x.std() / task.spread[t] - 1) < 0.03


def test_schedules_are_those_of_the_papers() -> None:
    paper = task_of(nn.Identity(), steps=1000)
    assert paper.betas[0] == pytest.approx(1e-4)
    assert paper.betas[-1] == pytest.approx(0.02)
    assert task_of(nn.Identity()).betas[::99] == pytest.approx([1e-3, 0.2])
    cosine = task_of(nn.Identity(), steps=1000, schedule="cosine")
    assert max(cosine.betas) == 0.999
    assert cosine.kept[500] == pytest.approx(0.4937, abs=1e-3)


def test_signal_that_is_left_at_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="dl_zoo"):
        task_of(nn.Identity())
        assert not caplog.text
        task_of(nn.Identity(), beta_last=0.002)
    assert "after the last step 59 % of an item is left; samples start with none" in caplog.text


# ---- the way back ------------------------------------------------------------------------------------------------


THOUSAND = {"steps": 1000}


@pytest.mark.parametrize(
    ("settings", "deviation", "ratio", "within"),
    [
        (THOUSAND, 0.5, 1, 0.01),
        (THOUSAND, 1.0, 1, 0.01),
        (THOUSAND, 0.05, 1, 0.1),  # the first step's noise is 0.01
        (THOUSAND | {"schedule": "cosine"}, 0.5, 1, 0.01),
        (THOUSAND | {"variance": "beta"}, 1.0, 1, 0.001),  # the case for which it is exact
        (THOUSAND | {"sampler": "ddim"}, 0.5, 1, 0.01),
        (THOUSAND | {"sampler": "ddim", "sampling_steps": 100}, 0.5, 1, 0.03),
        ({"variance": "beta"}, 1.0, 1, 0.001),
        ({}, 1.0, 0.96, 0.01),  # the smaller variance makes samples too narrow,
        ({}, 0.05, 0.7, 0.05),  # the more, the narrower the data are beside the first step's noise of 0.03
        ({"variance": "beta"}, 0.05, 1.1, 0.1),  # and the larger one is nearer there
    ],
)
def test_with_a_perfect_net_samples_have_the_datas_moments(
    settings: dict[str, Any], deviation: float, ratio: float, within: float
) -> None:
    """Exactly: this net makes a sample a constant and a weighted sum of its noise, here one number at a time."""
    task = perfect(1.5, deviation, **settings)
    draws = task.noise(1, seeded()).shape[1]
    made = task.generate(torch.cat([torch.zeros(1, draws), torch.eye(draws)])[:, :, None])[:, 0].double()
    assert abs(float(made[0]) - 1.5) < 0.02
    assert abs(float((made[1:] - made[0]).norm()) / deviation - ratio) < within


def test_a_step_back_is_algorithm_2() -> None:
    """With every step visited: mean (x - beta / sqrt(1 - a) eps) / sqrt(1 - beta), and the posterior's variance."""
    torch.manual_seed(0)
    task, t = task_of(DDPMPoints(), shape=(2,)), 40
    x, z = torch.randn(2, 5, 2)
    beta, a, before = task.betas[t - 1], task.kept[t], task.kept[t - 1]
    with torch.no_grad():
        eps = task.net(x, torch.full((5,), t))
        found = task.back(x, t, t - 1, z)
    mean = (x - beta / (1 - a) ** 0.5 * eps) / (1 - beta) ** 0.5
    assert torch.allclose(found, mean + ((1 - before) / (1 - a) * beta) ** 0.5 * z, atol=1e-5)


def test_a_sample_is_a_function_of_its_noise() -> None:
    torch.manual_seed(0)
    task = task_of(DDPMPoints(width=16).train(), shape=(2,), steps=40)
    noise = task.noise(6, seeded())
    assert noise.shape == (6, 40, 2)
    made = task.generate(noise)
    torch.manual_seed(1)
    assert torch.equal(task.generate(noise), made)
    assert torch.allclose(task.generate(noise[2:4]), made[2:4], atol=1e-5)
    assert not torch.equal(task.generate(task.noise(6, seeded(1))), made)
    assert task.net.training
    assert not made.requires_grad


def test_the_chain_goes_from_noise_to_the_sample() -> None:
    for sampler, draws in (("ancestral", 5), ("ddim", 1)):
        task = task_of(DDPMPoints(width=16), shape=(2,), steps=40, sampler=sampler, sampling_steps=5)
        noise = task.noise(3, seeded())
        assert noise.shape == (3, draws, 2)
        chain = task.chain(noise)
        assert chain.shape == (6, 3, 2)
        assert torch.equal(chain[0], noise[:, 0])
        assert torch.equal(chain[-1], task.generate(noise))
        assert task.way == [0, 8, 16, 24, 32, 40]


def test_items_may_have_any_shape() -> None:
    task = perfect(0.3, 0.1, shape=(1, 4, 4), steps=50)
    assert task.generate(task.noise(2, seeded())).shape == (2, 1, 4, 4)
    assert task.measure((torch.randn(3, 1, 4, 4), None)).output.shape == (3,)


# ---- what it is asked --------------------------------------------------------------------------------------------


def test_a_net_that_says_nothing_has_a_loss_of_one() -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.zeros_like(x)

    task = task_of(Nothing(), shape=(2,)).eval()
    measured = task.measure((torch.randn(9000, 2), None))
    assert abs(float(measured.loss) - 1) < 0.05
    means = task.derive({name: float(value) / 9000 for name, value in measured.sums.items()})
    assert set(means) == {"loss", "early", "mid", "late"}
    assert all(abs(value - 1) < 0.08 for value in means.values())


def test_the_questions_of_an_evaluation_are_its_own_and_spread_over_all_steps() -> None:
    task, items = task_of(nn.Identity(), shape=(2,)).eval(), torch.zeros(300, 2)
    t, noise = task.draws(items)
    assert t.bincount().tolist() == [0] + [3] * 100
    assert t.tolist() != sorted(t.tolist())
    again = task.draws(items)
    assert torch.equal(again[0], t)
    assert torch.equal(again[1], noise)
    task.batch_index = 1
    assert not torch.equal(task.draws(items)[1], noise)
    torch.manual_seed(0)
    t, _ = task.train().draws(torch.zeros(20_000, 2))
    assert t.min() == 1
    assert t.max() == 100
    assert task.draws(items)[0].tolist() != task.draws(items)[0].tolist()


def test_it_learns_the_ring() -> None:
    words = [*SMALL, "trainer.max_epochs=4", "data.train_items=20000", "data.batch_size=200", "optimizer.lr=1e-2"]
    words += ["model.width=64"]
    done = run(compose([*words, "regularizer.ema.decay=0.95", "run_dir=run"]))
    assert done.metrics["test/loss"] < 0.35
    assert done.metrics["test/late"] < done.metrics["test/mid"] < done.metrics["test/early"], "least noise, hardest"
    trained = load_run(done.folder)
    task, modes = trained.task, trained.data.modes
    noise = task.noise(500, seeded())
    before, after = (torch.cdist(points, modes).min(dim=1) for points in (noise[:, 0], task.generate(noise)))
    assert after.values.median() < before.values.median() / 2
    assert len(after.indices.unique()) == 8


def test_evaluated_twice_it_says_the_same(cli: Callable[..., Said]) -> None:
    done = run(compose([*SMALL, "trainer.max_epochs=1", "run_dir=run"]))
    for _ in range(2):
        said = cli("evaluate", str(done.folder))
        assert f"{done.metrics['test/loss']:.4f}" in said.out


def test_stopped_within_an_epoch_and_continued_equals_never_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SMALL[:-1], "data.train_items=2000", "trainer.max_epochs=2", "logger=tensorboard", "checkpoint_every=0"]
    whole = run(compose([*words, "run_dir=whole"]))
    taken, original = [], MemoryLoader.share

    def stopping(self: MemoryLoader, order: Tensor, batch: int) -> Tensor:
        taken.append(batch)
        if self.shuffle and taken.count(1) == 1 and batch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, order, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryLoader, "share", stopping)
        assert run(compose([*words, "run_dir=part"])).status == "interrupted"
    again = run(compose([*words, "run_dir=part", "resume=auto"]))
    assert again.status == "finished"
    assert_same_run(whole.folder, again.folder)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"steps": 1}, "task.steps=1: must be a whole number from 2 on"),
        ({"schedule": "sine"}, "task.schedule=sine: must be one of linear, cosine"),
        ({"beta_first": 0}, "task.beta_first=0, task.beta_last=0.02: must be above 0, and the last no smaller"),
        (
            {"steps": 10},
            "task.beta_last=0.02 is 2 in 10 steps, and a variance must be below 1; more task.steps, or task",
        ),
        ({"sampler": "euler"}, "task.sampler=euler: must be one of ancestral, ddim"),
        ({"variance": "none"}, "task.variance=none: must be one of posterior, beta"),
        ({"sampling_steps": 101}, "task.sampling_steps=101: must be a whole number from 1 to 100"),
    ],
)
def test_wrong_numbers_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        task_of(nn.Identity(), **settings)


def test_what_it_does_not_take(cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "model=ddpm_points", "data=digits"))
    assert said.endswith("model=ddpm_points takes points, and data=digits has pictures; data=ring")
    said = one_line(cli("train", "model=mlp", "data=ring", "task=diffusion"))
    assert said.endswith("task=diffusion needs a net made for it, and model=mlp is for classification")
    with pytest.raises(UserError, match=r"makes items of the shape \(2,\), and the data's have \(1, 8, 8\)"):
        task_of(nn.Identity(), shape=(2,)).measure((torch.zeros(3, 1, 8, 8), None))
    with pytest.raises(UserError, match="makes no items of a given class"):
        task_of(nn.Identity()).generate(torch.zeros(1, 100, 1), torch.zeros(1))
    with pytest.raises(ValueError, match="embedding=3: must be an even number"):
        DDPMPoints(embedding=3)
