"""The optimizers written out: torch's trajectories step by step, in the one trainer, and across a checkpoint."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Said, assert_same_run, one_line
from torch import Generator, Tensor, nn

from dl_zoo import checkpoints
from dl_zoo.callbacks.survival import Survival
from dl_zoo.compose import compose
from dl_zoo.from_scratch import optimizers, update_rules
from dl_zoo.from_scratch.descent import batches, descend
from dl_zoo.options import names, read
from dl_zoo.run import run

KIN: dict[str, tuple[type[torch.optim.Optimizer], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (optimizers.GradientDescent, torch.optim.SGD, {"lr": 0.05}),
    "momentum": (optimizers.Momentum, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "nesterov": (optimizers.Momentum, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "adagrad": (optimizers.AdaGrad, torch.optim.Adagrad, {"lr": 0.1, "eps": 1e-10}),
    "rmsprop": (optimizers.RMSprop, torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "eps": 1e-8}),
    "adam": (optimizers.Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-8}),
}
RUN = [*SMALL, "pictures=false", "logger=none", "model=mlp", "model.width=16", "trainer.max_epochs=1"]


def trajectory(make: Callable[..., torch.optim.Optimizer], steps: int = 100, **numbers: Any) -> list[list[Tensor]]:
    """Of two weights of a small net in float64, on batches of a problem that stay the same; a schedule lowers the rate,
    and one bias has no gradient in the first half."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(64, 5).double(), torch.randn(64, 2).double()
    optimizer, path = make(net.parameters(), **numbers), []
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.5)
    for step in range(steps):
        rows = torch.arange(8) + 8 * (step % 8)
        optimizer.zero_grad()
        (net(x[rows]) - y[rows]).square().mean().backward()
        if step < steps // 2:
            net[0].bias.grad = None
        optimizer.step()
        schedule.step()
        path.append([p.detach().clone() for p in net.parameters()])
    return path


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", KIN)
def test_a_hundred_steps_are_torchs(name: str, weight_decay: float) -> None:
    ours, theirs, numbers = KIN[name]
    one, other = (trajectory(make, **numbers, weight_decay=weight_decay) for make in (ours, theirs))
    for a, b in zip(one, other, strict=True):
        for p, q in zip(a, b, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-10)
    assert (one[-1][0] - one[0][0]).abs().max() > 0.01, "it moved"


def test_each_rule_is_pure_and_is_its_equation_on_numbers_by_hand() -> None:
    w, g, zero = torch.tensor(1.0).double(), torch.tensor(-2.0).double(), torch.tensor(0.0).double()
    assert update_rules.gradient_descent(w, g, 0.1).item() == pytest.approx(1.2)
    w1, v = update_rules.momentum(w, g, zero, 0.1, 0.5)
    assert (w1.item(), v.item()) == pytest.approx((1.2, -2.0))
    w2, v = update_rules.momentum(w1, g, v, 0.1, 0.5)
    assert (w2.item(), v.item()) == pytest.approx((1.5, -3.0))
    w1, v = update_rules.nesterov(w, g, zero, 0.1, 0.5)
    assert (w1.item(), v.item()) == pytest.approx((1.3, -2.0))  # 1 + 0.1 (2 + 0.5 * 2)
    w1, s = update_rules.adagrad(w, g, torch.tensor(5.0).double(), 0.3, 0.0)
    assert (w1.item(), s.item()) == pytest.approx((1.2, 9.0))
    w1, s = update_rules.rmsprop(w, g, torch.tensor(6.0).double(), 0.2, 0.9, 0.0)
    assert (w1.item(), s.item()) == pytest.approx((1 + 0.4 / 5.8**0.5, 5.8))
    assert [w.item(), g.item(), zero.item()] == [1.0, -2.0, 0.0], "what was given stays"


def test_nesterovs_gradient_is_where_momentum_is_about_to_arrive() -> None:
    """His own form, v <- beta v - eta g(w + beta v), w <- w + v, goes through points that ours has w + beta v for."""
    curvature, lr, beta = torch.tensor([1.0, 10.0]).double(), 0.05, 0.9
    theirs, velocity = torch.tensor([1.0, 1.0]).double(), torch.zeros(2).double()
    ours, v = theirs, velocity
    for _ in range(50):
        velocity = beta * velocity - lr * curvature * (theirs + beta * velocity)
        theirs = theirs + velocity
        ours, v = update_rules.nesterov(ours, curvature * ours, v, lr, beta)
        torch.testing.assert_close(ours, theirs + beta * velocity, rtol=0, atol=1e-12)


def test_the_articles_form_of_momentum_is_the_same_until_the_rate_changes() -> None:
    w = article = torch.tensor(1.0).double()
    v = velocity = torch.tensor(0.0).double()
    for lr in [0.1, 0.1, 0.1, 0.01]:
        before = torch.equal(w, article) or abs(float(w - article)) < 1e-12
        w, v = update_rules.momentum(w, 2 * w, v, lr)
        velocity = 0.9 * velocity - lr * 2 * article
        article = article + velocity
    assert before
    assert abs(float(w - article)) > 0.1


def test_adams_first_step_with_and_without_its_correction() -> None:
    g, zero = torch.tensor([1e-3, -5.0, 200.0]).double(), torch.zeros(3).double()
    corrected, _, _ = update_rules.adam(zero, g, zero, zero, 1, 0.01)
    torch.testing.assert_close(corrected, -0.01 * g.sign(), rtol=2e-5, atol=0)  # epsilon is 1e-5 of the least
    plain, m, v = update_rules.adam(zero, g, zero, zero, 1, 0.01, bias_correction=False)
    torch.testing.assert_close(plain, -0.01 * 0.1 / 0.001**0.5 * g.sign(), rtol=1e-3, atol=0)
    torch.testing.assert_close(m, 0.1 * g)
    torch.testing.assert_close(v, 0.001 * g**2)
    many, _, _ = update_rules.adam(zero, g, m, v, 100_000, 0.01)
    same, _, _ = update_rules.adam(zero, g, m, v, 100_000, 0.01, bias_correction=False)
    torch.testing.assert_close(many, same)  # late, there is nothing to correct


def test_adagrads_steps_shrink_and_rmsprops_do_not() -> None:
    def steps(rule: Callable[..., Any]) -> list[float]:
        w, s, found = torch.tensor(0.0).double(), torch.tensor(0.0).double(), []
        for _ in range(100):
            moved, s = rule(w, torch.tensor(3.0).double(), s, 0.1)
            found.append(float(w - moved))
            w = moved
        return found

    assert steps(update_rules.adagrad) == pytest.approx([0.1 / math.sqrt(t) for t in range(1, 101)])
    assert steps(update_rules.rmsprop)[0] == pytest.approx(0.1 / math.sqrt(0.1))
    assert steps(update_rules.rmsprop)[-1] == pytest.approx(0.1, rel=1e-4)


# ---- in the one trainer ------------------------------------------------------------------------------------------


def test_each_has_the_yaml_of_its_torch_kin() -> None:
    ours = [name for name in names("optimizer") if name.endswith("_from_scratch")]
    assert ours == [f"{name}_from_scratch" for name in ("adagrad", "adam", "momentum", "rmsprop", "sgd")]
    for name in ours:
        mine, kin = read("optimizer", name), read("optimizer", name.removesuffix("_from_scratch"))
        shared = (mine.keys() & kin.keys()) - {"_target_"}
        assert {key: mine[key] for key in shared} == {key: kin[key] for key in shared}
        assert kin.keys() - mine.keys() <= {"momentum"}, "of RMSprop, 0 there"


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adagrad", "rmsprop", "adam"])
def test_a_run_ends_where_torchs_does(name: str) -> None:
    kin = [f"optimizer={name}"]
    own = ["optimizer=momentum_from_scratch", "optimizer.nesterov=true"] if name == "nesterov" else []
    own = own or [f"optimizer={name}_from_scratch"]
    common = [*RUN, "optimizer.lr=0.01", "regularizer=[weight_decay]", "optimizer.decay_biases_and_norms=false"]
    folders = [run(compose([*common, *choice])).folder for choice in (kin, own)]
    one, other = (checkpoints.read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in folders)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-4, atol=2e-6)


def test_the_switch_reaches_the_rule() -> None:
    """Without the correction the first step is longer by 0.1 / sqrt(0.001), whatever the gradient."""
    words = [*RUN, "optimizer=adam_from_scratch", "trainer.max_steps=1", "initializer=zeros"]
    ends = [run(compose([*words, f"optimizer.bias_correction={switch}"])).folder for switch in ("true", "false")]
    states = [checkpoints.read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in ends]
    corrected, plain = (state["net.head.bias"] for state in states)  # from 0
    torch.testing.assert_close(corrected.abs(), torch.full_like(corrected, 1e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close(plain / corrected, torch.full_like(plain, 0.1 / 0.001**0.5), rtol=1e-2, atol=0)


def test_a_run_that_is_stopped_goes_on_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*RUN, "logger=tensorboard", "optimizer=adam_from_scratch", "trainer.max_epochs=2"]
    whole = run(compose([*settings, "run_dir=whole"]))
    ask, after = Survival.on_train_batch_end, [13]  # in the second epoch of nine steps

    def stopping(self: Survival, trainer: Any, *rest: Any) -> None:
        if after and trainer.global_step == after[0]:
            self._ask(15, None)
            after.clear()
        ask(self, trainer, *rest)

    monkeypatch.setattr(Survival, "on_train_batch_end", stopping)
    assert run(compose([*settings, "run_dir=broken"])).status == "interrupted"
    kept = checkpoints.read(Path("broken/checkpoints/last.ckpt"))["optimizer_states"][0]["state"][0]
    assert kept["step"] == 13
    assert all(kept[memory].abs().sum() > 0 for memory in ("m", "v"))
    assert run(compose([*settings, "run_dir=broken", "resume=auto"])).status == "finished"
    assert_same_run(whole.folder, Path("broken"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["adam", "optimizer.betas=[0.9,1.0]"], "optimizer: betas=[0.9, 1.0]: must be two numbers of at least 0 and"),
        (["adam", "optimizer.betas=[0.9]"], "optimizer: betas=[0.9]: must be two numbers of at least 0 and below 1"),
        (["adam", "optimizer.bias_correction=perhaps"], "optimizer.bias_correction=perhaps: must be true or false"),
        (["momentum", "optimizer.momentum=-1"], "optimizer: momentum=-1: must be at least 0 and below 1"),
        (["rmsprop", "optimizer.eps=-1"], "optimizer: eps=-1: must be at least 0"),
        (["sgd", "optimizer.lr=-1"], "optimizer.lr=-1: must be a number of at least 0"),
    ],
)
def test_wrong_numbers_are_told_in_one_line(cli: Callable[..., Said], words: list[str], line: str) -> None:
    said = one_line(cli("train", "model=mlp", f"optimizer={words[0]}_from_scratch", *words[1:]))
    assert line in said


# ---- batch, stochastic and mini-batch descent ----------------------------------------------------------------------


def line() -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """x (60, 3), y (60,), and the gradient of the mean of (x w - y)^2."""
    x = torch.randn(60, 3, generator=Generator().manual_seed(0)).double()
    y = x @ torch.tensor([1.0, -2.0, 0.5]).double() + 0.1 * torch.randn(60, generator=Generator().manual_seed(1))
    return x, y, lambda w, x, y: 2 / len(x) * x.T @ (x @ w - y)


@pytest.mark.parametrize("batch_size", [60, 16, 1])
def test_descent_is_torchs_sgd_over_the_same_batches(batch_size: int) -> None:
    x, y, gradient = line()
    path = descend(gradient, torch.zeros(3).double(), x, y, lr=0.02, batch_size=batch_size, epochs=3, seed=5)
    assert len(path) == 1 + 3 * math.ceil(60 / batch_size)
    w, generator = nn.Parameter(torch.zeros(3).double()), Generator().manual_seed(5)
    optimizer = torch.optim.SGD([w], 0.02)
    for _ in range(3):
        seen = [*batches(60, batch_size, generator)]
        assert torch.cat(seen).sort().values.tolist() == [*range(60)]
        for batch in seen:
            optimizer.zero_grad()
            (x[batch] @ w - y[batch]).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(path[-1], w.detach(), rtol=0, atol=1e-12)


def test_the_noise_of_a_batch_is_as_the_docstring_says() -> None:
    """Its variance over batches, against that of single items by 1/B (N - B) / (N - 1)."""
    x, y, gradient = line()
    w, generator = torch.zeros(3).double(), Generator().manual_seed(0)
    each = torch.stack([gradient(w, x[i : i + 1], y[i : i + 1]) for i in range(60)])
    torch.testing.assert_close(each.mean(0), gradient(w, x, y))
    for size in (4, 15, 30):
        found = [next(batches(60, size, generator)) for _ in range(2000)]
        of_batches = torch.stack([gradient(w, x[batch], y[batch]) for batch in found])
        expected = each.var(0, correction=0) / size * (60 - size) / 59
        torch.testing.assert_close(of_batches.var(0), expected, rtol=0.15, atol=0)  # 5 deviations of a variance
    whole = [gradient(w, x[batch], y[batch]) for batch in [next(batches(60, 60, generator)) for _ in range(3)]]
    torch.testing.assert_close(whole[0], whole[1])
    with pytest.raises(ValueError, match="batch_size=61: must be from 1 to the 60 items"):
        descend(gradient, w, x, y, lr=0.1, batch_size=61, epochs=1)


def test_a_steps_loss_is_the_closures_and_a_rate_of_zero_stays() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = optimizers.Adam([w], lr=0.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 2.0
    assert w.tolist() == [1.0, 1.0]
