"""The beginnings: gates, threshold units, the perceptron and its bound, the two spirals."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import assert_same_run
from sklearn.linear_model import LogisticRegression

from dl_zoo.callbacks.survival import Survival
from dl_zoo.compose import compose
from dl_zoo.data.logic_gates import GATES, LogicGates
from dl_zoo.data.two_spirals import TwoSpirals
from dl_zoo.errors import UserError
from dl_zoo.models.perceptron import Perceptron
from dl_zoo.models.threshold_unit import ThresholdUnit
from dl_zoo.probes.novikoff import hard_margin, novikoff
from dl_zoo.run import run
from dl_zoo.tasks import perceptron

BARE = ["trainer=cpu", "pictures=false", "logger=none"]
MEANING = {  # written with Python's own words
    "and": all,
    "or": any,
    "nand": lambda row: not all(row),
    "nor": lambda row: not any(row),
    "xor": lambda row: sum(row) in (1, 3, 5),
    "xnor": lambda row: sum(row) in (0, 2, 4),
    "majority": lambda row: sorted(row)[(len(row) - 1) // 2] == 1,
}


def gates(**settings: object) -> LogicGates:
    data = LogicGates({}, **settings)
    data.setup()
    return data


# ---- gates and the nets that are wired for them ------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [2, 3, 5])
@pytest.mark.parametrize("gate", GATES)
def test_truth_tables_and_hand_set_nets(gate: str, inputs: int) -> None:
    rows = list(product((0, 1), repeat=inputs))
    expected = [int(MEANING[gate](row)) for row in rows]
    net = ThresholdUnit(inputs, gate=gate)
    assert not list(net.parameters())
    for signed in (False, True):
        table, outputs = gates(gate=gate, inputs=inputs, signed=signed).splits["test"]
        coded = [[2 * x - 1 for x in row] for row in rows] if signed else [list(row) for row in rows]
        assert (table.tolist(), outputs.tolist()) == (coded, expected)
        assert net(table).argmax(1).tolist() == expected
    assert len(net.layers) == (2 if gate in ("xor", "xnor") else 1)


def test_gates_as_data() -> None:
    data = gates(repeats=3, inputs=3, gate="and")
    assert data.dims == {"features": 3, "num_classes": 2}
    assert data.sizes == {"train": 24, "val": 8, "test": 8}
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, x.dtype, y.dtype) == ((4, 3), torch.float32, torch.int64)
    for setting, message in {
        ("gate", "but"): "data.gate=but: must be one of and, or",
        ("inputs", 1): "data.inputs=1: must be from 2 to 16",
        ("repeats", 0): "data.repeats=0: must be at least 1",
    }.items():
        with pytest.raises(UserError, match=message):
            LogicGates({}, **dict([setting]))
    with pytest.raises(UserError, match=r"data\.dims\.features=3: the data's is 2"):
        LogicGates({"features": 3}).setup()
    with pytest.raises(UserError, match="model=lenet5 needs channels and image_size, which data=logic_gates does not"):
        compose(["data=logic_gates", "model=lenet5"])


# ---- the perceptron ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signed", "gate"), [(True, "xor"), (False, "and")])
def test_training_is_rosenblatts_rule(signed: bool, gate: str) -> None:
    """Update by update: the steps of SGD on the criterion, and the loop as one writes it by hand, in whole numbers."""
    data = gates(gate=gate, signed=signed, batch_size=1, repeats=16)
    net = Perceptron(2)
    task = perceptron.Perceptron(net, lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    optimizer = task.optimizer_over(list(net.parameters()))
    weights, bias, mistakes = [0, 0], 0, 0
    for x, y in data.train_dataloader():
        measured = task.measure((x, y))
        optimizer.zero_grad()
        measured.loss.backward()
        optimizer.step()
        row, wanted = x[0].int().tolist(), y.item()
        s = sum(w * each for w, each in zip(weights, row, strict=True)) + bias
        if (s > 0) != wanted:
            step = 1 if wanted else -1
            weights, bias, mistakes = (
                [w + step * e for w, e in zip(weights, row, strict=True)],
                bias + step,
                mistakes + 1,
            )
        assert measured.loss.item() == (abs(s) if (s > 0) != wanted else 0)
        assert net.response.weight[0].tolist() == weights
        assert net.response.bias.item() == bias
    assert mistakes > 0


def test_a_tie_of_several_classes_moves_two_of_them_by_the_whole_input() -> None:
    net = Perceptron(3, 4)
    task = perceptron.Perceptron(net, lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    x = torch.tensor([[1.0, -2.0, 3.0]])
    task.measure((x, torch.tensor([2]))).loss.backward()
    torch.testing.assert_close(net.response.weight.grad, torch.stack([x[0], 0 * x[0], -x[0], 0 * x[0]]))
    net.zero_grad()
    task.measure((x, torch.tensor([0]))).loss.backward()
    assert not net.response.weight.grad.any(), "the first of the tied was right"


def test_mistakes_are_counted_once_though_the_run_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["experiment=perceptron_gate", "data.gate=xor", "data.repeats=4", *BARE, "trainer.max_epochs=3"]
    settings += ["checkpoint_every=0", "logger=tensorboard", "trainer.log_every_n_steps=3"]
    whole = run(compose([*settings, "run_dir=whole"]))
    assert whole.metrics["train/mistakes"] == whole.metrics["probe/novikoff/mistakes"] > 16
    assert whole.metrics["probe/novikoff/separable"] == 0

    ask, after = Survival.on_train_batch_end, [21]  # in the second epoch of 16 steps

    def stopping(self: Survival, trainer: object, *rest: object) -> None:
        if after and trainer.global_step == after[0]:  # type: ignore[attr-defined]
            self._ask(15, None)
            after.clear()
        ask(self, trainer, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Survival, "on_train_batch_end", stopping)
    assert run(compose([*settings, "run_dir=broken"])).status == "interrupted"
    assert run(compose([*settings, "run_dir=broken", "resume=auto"])).status == "finished"
    assert_same_run(whole.folder, Path("broken"))


# ---- Novikoff's bound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "signed", "radius", "margin"),
    [  # by hand: and's widest plane is x + y - 1 (with -1 and +1), 2x + 2y - 3 (with 0 and 1)
        ("and", True, 3**0.5, 1 / 3**0.5),
        ("or", True, 3**0.5, 1 / 3**0.5),
        ("and", False, 3**0.5, 1 / 17**0.5),
    ],
)
def test_novikoffs_bound_is_the_one_by_hand(gate: str, signed: bool, radius: float, margin: float) -> None:
    found = novikoff(SimpleNamespace(mistakes=3), gates(gate=gate, signed=signed))
    assert found["novikoff/separable"] == 1
    assert found["novikoff/radius"] == pytest.approx(radius, rel=1e-5)
    assert found["novikoff/margin"] == pytest.approx(margin, rel=1e-5)
    assert found["novikoff/bound"] == pytest.approx((radius / margin) ** 2, rel=1e-5)
    assert found["novikoff/ratio"] == pytest.approx(3 * (margin / radius) ** 2, rel=1e-5)


def test_no_bound_where_no_plane_separates() -> None:
    found = novikoff(SimpleNamespace(mistakes=7), gates(gate="xor"))
    assert found == {"novikoff/separable": 0, "novikoff/radius": pytest.approx(3**0.5), "novikoff/mistakes": 7}
    assert hard_margin(torch.tensor([[3.0, 4.0]]).double()) == pytest.approx(5)
    with pytest.raises(UserError, match="two classes"):
        novikoff(SimpleNamespace(mistakes=0), SimpleNamespace(classes=["a", "b", "c"]))


def test_a_run_keeps_to_the_bound() -> None:
    metrics = run(compose(["experiment=perceptron_gate", "data.signed=false", "seed=100", *BARE])).metrics
    assert metrics["test/error"] == 0
    assert 0 < metrics["probe/novikoff/mistakes"] <= metrics["probe/novikoff/bound"] < 51.01


# ---- the spirals -------------------------------------------------------------------------------------------------


def test_spirals() -> None:
    data, other = TwoSpirals({}), TwoSpirals({}, seed=5, repeats=1)
    data.setup()
    other.setup()
    for split in ("val", "test"):
        assert all(torch.equal(a, b) for a, b in zip(data.splits[split], other.splits[split], strict=True))
    inputs, targets = data.splits["train"]
    assert data.sizes == {"train": 10_000, "val": 1000, "test": 1000}
    assert torch.equal(inputs[:1000], other.splits["train"][0]), "the same points, once"
    assert not torch.equal(inputs[:1000], data.splits["test"][0])
    assert targets.bincount().tolist() == [5000, 5000]
    assert LogisticRegression().fit(inputs, targets).score(*data.splits["test"]) < 0.65
    # The first points, as they were when results were first recorded.
    expected = [[3.7365, -1.1844], [3.0131, 5.5635]]
    torch.testing.assert_close(data.splits["test"][0][:2], torch.tensor(expected), atol=1e-4, rtol=0)


def test_spirals_without_noise_lie_on_the_curves() -> None:
    data = TwoSpirals({}, noise=0.0, points=50)
    data.setup()
    inputs, targets = data.splits["val"]
    inputs = inputs * (1 - 2 * targets)[:, None]  # the second spiral is the first, negated
    t = 104 * (1 - inputs.norm(dim=1) / 6.5)
    assert ((t >= 0) & (t <= 96)).all()
    angle = torch.pi * t / 16
    torch.testing.assert_close(inputs, inputs.norm(dim=1)[:, None] * torch.stack([angle.sin(), angle.cos()], 1))
