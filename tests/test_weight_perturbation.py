"""Weight perturbation: in the mean it steps as the gradient does, and it asks for nothing but the loss."""

import re
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.from_scratch.weight_perturbation import WeightPerturbation, perturbed_step
from dl_zoo.run import run
from tests.conftest import SMALL


def bowl(w: list[Tensor]) -> Tensor:
    return (w[0] * torch.tensor([1.0, 2.0, 3.0], dtype=w[0].dtype)).square().sum() + (w[1] - 1).square().sum()


def test_the_mean_step_is_the_gradients() -> None:
    w = [torch.tensor([1.0, -1.0, 0.5]).double(), torch.zeros(2).double()]
    leaves = [each.clone().requires_grad_() for each in w]
    gradient = torch.autograd.grad(bowl(leaves), leaves)
    generator, draws = Generator().manual_seed(0), 20_000
    total = [torch.zeros_like(each) for each in w]
    for _ in range(draws):
        moved = perturbed_step(w, bowl, lr=1.0, eps=1e-4, generator=generator)
        total = [t + before - after for t, before, after in zip(total, w, moved, strict=True)]
    size = torch.cat(gradient).norm()
    for mean, g in zip(total, gradient, strict=True):
        assert (mean / draws - g).norm() < 5 * size * (7 / draws) ** 0.5  # P + 2 = 7: the variance that the file states


def test_the_optimizer_takes_the_step_of_the_function() -> None:
    torch.manual_seed(0)
    w = [nn.Parameter(torch.tensor([1.0, -1.0, 0.5]).double()), nn.Parameter(torch.zeros(2).double())]
    optimizer = WeightPerturbation(w, lr=0.1, eps=1e-4)
    before = [each.detach().clone() for each in w]
    loss = optimizer.step(lambda: float(bowl(w).detach()))
    assert loss == float(bowl(before))
    torch.manual_seed(0)
    way = [torch.randn_like(each) for each in before]
    slope = (bowl([a + 1e-4 * v for a, v in zip(before, way, strict=True)]) - bowl(before)) / 1e-4
    for now, then, v in zip(w, before, way, strict=True):
        torch.testing.assert_close(now.detach(), then - 0.1 * slope * v, rtol=1e-9, atol=1e-9)


def test_both_evaluations_draw_alike_and_the_next_step_anew() -> None:
    w = [nn.Parameter(torch.zeros(3))]
    optimizer, seen = WeightPerturbation(w), []

    def loss() -> Any:
        seen.append(float(torch.rand(())))
        return float(w[0].detach().sum())

    optimizer.step(loss)
    optimizer.step(loss)
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_what_it_asks_for() -> None:
    with pytest.raises(ValueError, match="eps"):
        WeightPerturbation([torch.zeros(1)], eps=0)
    with pytest.raises(RuntimeError, match="closure"):
        WeightPerturbation([torch.zeros(1)]).step()


def test_it_learns_in_the_one_trainer_and_repeats_to_the_bit(tmp_path: Any) -> None:
    words = [*SMALL, "pictures=false", "logger=none", "model=mlp", "model.width=4", "model.depth=0"]
    words += ["optimizer=weight_perturbation", "optimizer.lr=0.003", f"run_dir={tmp_path / 'a'}"]
    found = run(compose([*words, "trainer.max_epochs=6"]))
    again = run(compose([*words[:-1], f"run_dir={tmp_path / 'b'}", "trainer.max_epochs=6"]))
    assert found.metrics["train/loss"] == again.metrics["train/loss"] < 2.2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["regularizer=clip_norm"], "regularizer=clip_norm does not go with optimizer=weight_perturbation"),
        (["regularizer=clip_value"], "regularizer=clip_value does not go with optimizer=weight_perturbation"),
        (["regularizer=gradient_noise"], "regularizer=gradient_noise does not go with optimizer=weight_perturbation"),
        (["trainer.accumulate_grad_batches=2"], "weight perturbation takes whole batches; raise data.batch_size"),
        (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val: weight perturbation looks at no gradient"),
        (["model=gan", "data=mnist"], "optimizer=weight_perturbation: task=gan asks for a new loss at each step"),
    ],
)
def test_what_acts_on_gradients_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        compose(["optimizer=weight_perturbation", *words])
