"""The curves against numbers worked out by hand, and a training that is the same to the bit with and without them."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from conftest import SMALL, assert_same, curves
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

from dl_zoo import checkpoints, loop
from dl_zoo import run as run_module
from dl_zoo.callbacks.diagnostics import Diagnostics, Recording
from dl_zoo.compose import compose
from dl_zoo.initializers import he
from dl_zoo.models.mlp import MLP

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
Loss = Callable[[Tensor], Tensor]
SGD = partial(torch.optim.SGD, lr=0.1)


class Memory(Logger):
    """Keeps what is logged: step -> tag -> value."""

    name = version = "memory"  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.setdefault(step or 0, {}).update(metrics)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class Module(pl.LightningModule):
    def __init__(self, net: nn.Module, loss: Loss, optimizer: Callable[..., torch.optim.Optimizer]):
        super().__init__()
        self.net, self.loss, self.make = net, loss, optimizer
        self.losses: list[float] = []

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        loss = self.loss(self.net(batch))
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make([p for p in self.net.parameters() if p.requires_grad])


def trainer(logger: Any, callbacks: Any = None, every: int = 1, short: bool = True, **settings: Any) -> pl.Trainer:
    callbacks = [Diagnostics()] if callbacks is None else callbacks
    made = pl.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=callbacks, logger=logger, log_every_n_steps=every,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    return loop.install(made) if short else made


def fit(
    net: nn.Module, *batches: Tensor, loss: Loss = torch.sum, optimizer: Any = SGD, **settings: Any
) -> dict[int, dict[str, float]]:
    """What is logged while `net` learns to make the loss of its output small."""
    memory = Memory()
    trainer(memory, **settings).fit(Module(net, loss, optimizer), DataLoader(list(batches), batch_size=None))
    return memory.rows


def one_step(net: nn.Module, batch: Tensor, **settings: Any) -> dict[str, float]:
    return fit(net, batch, **settings)[1]


def dead_in(numbers: dict[str, float]) -> dict[str, float]:
    return {tag.split("/")[1]: value for tag, value in numbers.items() if tag.endswith("/dead")}


def is_watched(net: nn.Module) -> bool:
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    return hooks or torch._C._len_torch_function_stack() > 0


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """From the same numbers, and to an end where nothing watches calls of torch any more."""
    torch.manual_seed(0)
    yield
    assert torch._C._len_torch_function_stack() == 0


# ---- gradients and updates ----------------------------------------------------------------------------------------


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_gradients_and_updates_by_hand() -> None:
    """L = b a x summed over x = 1, 2, with a = 2, b = 3: dL/da = 3 * 3 and dL/db = 2 * 3; an update is 0.1 of them."""
    net = nn.Sequential(linear([[2.0]]), linear([[3.0]]))
    numbers = one_step(net, torch.tensor([[1.0], [2.0]]))
    assert numbers == pytest.approx(
        {
            "activations/0/mean": 3, "activations/0/std": 1, "activations/1/mean": 9, "activations/1/std": 3,
            "gradients/0": 9, "gradients/1": 6, "gradients/all": (81 + 36) ** 0.5,
            "updates/0": 0.9 / 2, "updates/1": 0.6 / 3,
        }
    )  # fmt: skip


def test_bias_and_weight_are_one_layer() -> None:
    """Gradients of y = w x + b at x = (3, 4) of three items: 3 * (3, 4) and 3."""
    numbers = one_step(linear([[1.0, 2.0]], [2.0]), torch.tensor([[3.0, 4.0]] * 3))
    assert numbers["gradients/net"] == pytest.approx(3 * (9 + 16 + 1) ** 0.5)
    assert numbers["updates/net"] == pytest.approx(0.1 * 3 * 26**0.5 / 3)


def test_sgd_moves_by_the_gradient() -> None:
    net = MLP(in_features=20, width=16, depth=3)
    names = ("layers.0", "layers.1", "layers.2", "head")
    sizes = [parameters_to_vector(net.get_submodule(name).parameters()).norm().item() for name in names]
    numbers = one_step(net, torch.randn(8, 20), loss=lambda y: y.square().mean())
    for name, size in zip(names, sizes, strict=True):
        assert numbers[f"updates/{name}"] == pytest.approx(0.1 * numbers[f"gradients/{name}"] / size, rel=1e-4)


def test_no_ratio_to_weights_that_are_zero() -> None:
    numbers = one_step(linear([[0.0]], [0.0]), torch.ones(2, 1))
    assert "gradients/net" in numbers
    assert "updates/net" not in numbers


def test_gradients_are_those_before_clipping() -> None:
    nets = [linear([[2.0]]) for _ in range(2)]
    free = one_step(nets[0], torch.ones(4, 1))
    clipped = one_step(nets[1], torch.ones(4, 1), gradient_clip_val=1.0)
    assert free["gradients/net"] == clipped["gradients/net"] == 4
    assert clipped["updates/net"] == pytest.approx(free["updates/net"] / 4, rel=1e-4)


def test_vanishing_gradients_are_seen() -> None:
    """Twenty layers of sigmoids shrink the gradient by 4 and more at each; rectifiers under He's weights keep it."""
    x = torch.randn(32, 64)
    ratios = {}
    for activation in ("sigmoid", "relu"):
        net = MLP(in_features=64, width=64, depth=20, activation=activation)
        he(net)
        numbers = one_step(net, x, loss=lambda y: y.square().mean())
        ratios[activation] = numbers["gradients/layers.0"] / numbers["gradients/head"]
    assert ratios["sigmoid"] < 1e-6
    assert 0.1 < ratios["relu"] < 10


def test_frozen_parameters_have_no_curves() -> None:
    net = nn.Sequential(linear([[2.0]]), linear([[3.0]], [4.0]))
    net[0].requires_grad_(False)
    net[1].bias.requires_grad_(False)
    numbers = one_step(net, torch.ones(1, 1))
    assert not numbers.keys() & {"gradients/0", "updates/0"}
    assert (numbers["activations/0/mean"], numbers["gradients/1"]) == (2, 2)
    assert numbers["updates/1"] == pytest.approx(0.2 / 3)  # the bias of 4 does not move, and does not count


class Tied(nn.Module):
    """Two layers with one weight, of which `again` is used twice: y = w(w(w x))."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = linear([[2.0]]), linear([[2.0]])
        self.again.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.again(self.first(x)))


def test_shared_weights_count_once_and_the_last_use_counts() -> None:
    numbers = one_step(Tied(), torch.ones(1, 1))
    assert numbers["gradients/first"] == numbers["gradients/again"] == numbers["gradients/all"] == 3 * 4
    assert (numbers["activations/first/mean"], numbers["activations/again/mean"]) == (2, 8)


def test_sparse_gradients() -> None:
    net = nn.Embedding(10, 4, sparse=True)
    numbers = one_step(net, torch.tensor([1, 1, 2]))  # row 1 twice: its gradient is 2
    assert numbers["gradients/net"] == numbers["gradients/all"] == pytest.approx((4 * 4 + 4 * 1) ** 0.5)


def test_reparametrized_layers_keep_their_name() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2, bias=False)))
    numbers = one_step(net, torch.randn(4, 3))
    assert {tag.split("/")[1] for tag in numbers} == {"0", "all"}
    assert numbers["gradients/0"] == pytest.approx(numbers["gradients/all"])


# ---- activations and dead units -----------------------------------------------------------------------------------


class States(nn.Module):
    """An LSTM that is fed a packed sequence, or returns one beside its states."""

    def __init__(self, pack: bool):
        super().__init__()
        self.lstm, self.pack = nn.LSTM(3, 4, batch_first=True), pack

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), x.shape[1])
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True) if self.pack else x
        output, _ = self.lstm(packed)
        return output.data if self.pack else output


@pytest.mark.parametrize("pack", [False, True])
def test_the_output_before_the_states(pack: bool) -> None:
    net, x = States(pack), torch.randn(5, 6, 3)
    expected = net(x).detach()
    numbers = one_step(net, x)
    assert numbers["activations/lstm/mean"] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert numbers["activations/lstm/std"] == pytest.approx(expected.std(correction=0).item(), rel=1e-5)


class Calls(nn.Module):
    """`layer`, then whatever function."""

    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.relu": torch.relu,
    "torch.relu, by name": lambda x: torch.relu(input=x),
    "torch.relu_": torch.relu_,
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "after dropout": lambda x: torch.relu(F.dropout(x, 0.0)),
}


@pytest.mark.parametrize("way", WAYS)
def test_dead_units(way: str) -> None:
    """Biases of -100 and +100 silence and hold a unit; one that is silent for some items only is not dead."""
    layer = linear([[1.0], [1.0], [1.0], [0.0]], [-100.0, 100.0, 0.0, 0.0])
    numbers = one_step(Calls(layer, WAYS[way]), torch.tensor([[-1.0], [1.0], [-2.0]]))
    assert dead_in(numbers) == {"layer": 0.5}
    assert numbers["activations/layer/mean"] == pytest.approx(-0.5)  # of what the layer returned, not of its ReLU


@pytest.mark.parametrize(("bias", "share"), [(-100.0, 1.0), (100.0, 0.0)])
def test_all_dead_and_none(bias: float, share: float) -> None:
    net = MLP(in_features=6, width=5, depth=1)
    nn.init.constant_(net.get_parameter("layers.0.bias"), bias)
    assert dead_in(one_step(net, torch.randn(3, 6))) == {"layers.0": share}


@pytest.mark.parametrize("function", [F.leaky_relu, nn.LeakyReLU(), F.elu, torch.sigmoid, F.gelu, torch.tanh])
def test_other_nonlinearities_have_no_dead_units(function: Callable[[Tensor], Tensor]) -> None:
    numbers = one_step(Calls(linear([[1.0]], [-100.0]), function), torch.randn(3, 1))
    assert "activations/layer/mean" in numbers
    assert not dead_in(numbers)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 4, 1), (2, 3, 5, 4)),
        (nn.Conv1d(3, 4, 1), (2, 3, 4)),
        (nn.ConvTranspose2d(3, 4, 1), (2, 3, 4, 4)),
        (nn.BatchNorm1d(4), (3, 4, 5)),
        (nn.GroupNorm(2, 4), (3, 4, 5)),
        (nn.Linear(3, 4), (2, 5, 3)),
        (nn.Linear(3, 4), (2, 4, 5, 3)),
        (nn.Linear(3, 4), (6, 3)),
        (nn.LayerNorm(4), (2, 5, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_where_the_units_are(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """One unit of four is silenced, wherever the layer has them."""
    bias: Any = layer.get_parameter("bias")
    bias.data = torch.tensor([100.0, -100.0, 100.0, 100.0])
    assert dead_in(one_step(Calls(layer, torch.relu), torch.randn(shape))) == {"layer": 0.25}


class Block(nn.Module):
    """A residual block with a norm, a pooling and a branch: every way from a layer to its rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pooled, self.norm = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.left, self.right, self.unused = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        for layer, bias in ((self.left, -100.0), (self.right, 100.0), (self.pooled, -100.0)):
            nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)  # of no layer
        h = torch.relu(self.norm(self.conv(x)))
        h = torch.relu(F.max_pool2d(self.pooled(h), 2))
        h = torch.relu(F.avg_pool2d(h, 1) + 1)  # `pooled` has had its own
        left, right = self.left(x), self.right(x)
        return self.unused(x).sum() + torch.relu(left).sum() + torch.relu(right).sum() + h.sum()


@pytest.mark.parametrize("optimizer", [SGD, partial(torch.optim.LBFGS, lr=1e-6, max_iter=2)])
def test_a_rectifier_belongs_to_the_layer_before_it(optimizer: Any) -> None:
    """Also in a second forward pass, where the first rectifier comes after the last layer of the first pass."""
    numbers = one_step(Block(), torch.randn(8, 2, 4, 4), optimizer=optimizer)
    assert dead_in(numbers) == {"norm": 0, "pooled": 1, "left": 1, "right": 0}


@pytest.mark.slow  # importing the compiler alone takes seconds
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_net_has_the_same_tags() -> None:
    net, x = MLP(in_features=6, width=5), torch.randn(4, 6)
    rows = []
    for each in (net, torch.compile(net, backend="aot_eager")):
        recording = Recording(each)
        each(x)
        recording.stop()
        rows.append(recording.read())
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)


def test_outputs_that_are_no_numbers_are_passed_over() -> None:
    numbers = one_step(Calls(nn.Embedding(3, 2), lambda y: torch.relu(y[:0]).sum() + y.sum()), torch.tensor([0, 1]))
    assert not dead_in(numbers)
    numbers = one_step(Calls(nn.Linear(2, 2), lambda y: y.sum()), torch.empty(0, 2))
    assert "activations/layer/mean" not in numbers


# ---- the step that is watched -------------------------------------------------------------------------------------


class Watched(pl.Callback):
    """At which steps was the net watched while the batch ran?"""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert torch._C._len_torch_function_stack() == 0  # it ends with the forward pass
        if is_watched(pl_module.net):  # type: ignore[arg-type]
            self.steps.append(trainer.global_step + 1)


@pytest.mark.parametrize("short", [True, False])
def test_due_steps_only(short: bool) -> None:
    watched, memory = Watched(), Memory()
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    batches = DataLoader([torch.randn(3, 2)] * 10, batch_size=None)
    trainer(memory, [watched, Diagnostics()], every=4, short=short).fit(Module(net, torch.sum, SGD), batches)
    assert list(memory.rows) == watched.steps == [1, 4, 8]
    assert not is_watched(net)


def test_without_a_logger_nothing_is_watched() -> None:
    watched, net = Watched(), nn.Linear(2, 2)
    fit_without = trainer(False, [watched, Diagnostics()])
    fit_without.fit(Module(net, torch.sum, SGD), DataLoader([torch.randn(3, 2)], batch_size=None))
    assert not watched.steps


def test_every_logger_gets_the_same() -> None:
    loggers = [Memory(), Memory()]
    trainer(loggers).fit(Module(nn.Linear(2, 2), torch.sum, SGD), DataLoader([torch.randn(3, 2)], batch_size=None))
    assert loggers[0].rows == loggers[1].rows
    assert loggers[0].rows[1]


def test_tags_are_the_same_at_each_step_and_in_each_run() -> None:
    runs = [fit(MLP(in_features=6, width=5), *torch.randn(3, 4, 6)) for _ in range(2)]
    tags = [list(row) for rows in runs for row in rows.values()]
    assert len(tags) == 6
    assert all(row == tags[0] for row in tags)


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=0.1), partial(torch.optim.LBFGS, max_iter=4)])
def test_training_is_the_same_to_the_bit(short: bool, optimizer: Any) -> None:
    """Losses, weights, gradients, and the random numbers that dropout takes and that come next."""
    results = []
    for callbacks in ([], [Diagnostics()]):
        torch.manual_seed(0)
        net = MLP(in_features=12, width=16, dropout=0.5)
        module = Module(net, lambda y: F.cross_entropy(y, torch.zeros(8, dtype=torch.long)), optimizer)
        memory = Memory()
        batches = DataLoader(list(torch.randn(6, 8, 12)), batch_size=None)
        trainer(memory, callbacks, short=short).fit(module, batches)
        assert len(memory.rows) == (6 if callbacks else 0)
        gradients = [p.grad for p in net.parameters()]
        results.append([module.losses, dict(net.state_dict()), gradients, torch.get_rng_state()])
    assert_same(*results)


def test_both_loops_log_the_same() -> None:
    rows = []
    for short in (True, False):
        torch.manual_seed(0)
        rows.append(fit(MLP(in_features=6, width=5), *torch.randn(3, 4, 6), short=short))
    assert rows[0] == rows[1]


def test_lbfgs_counts_its_last_forward_pass_and_its_whole_step() -> None:
    """(w - 3)^2 from w = 1 ends at w = 3 within a step: seen are the last gradient and 2 / 1."""
    net = linear([[1.0]])
    optimizer = partial(torch.optim.LBFGS, max_iter=20, line_search_fn="strong_wolfe")
    numbers = one_step(net, torch.ones(1, 1), loss=lambda y: (y - 3).square().sum(), optimizer=optimizer)
    assert numbers["updates/net"] == pytest.approx(2, rel=1e-4)
    assert numbers["activations/net/mean"] == pytest.approx(3, rel=1e-3)
    assert numbers["gradients/net"] < 0.01  # it was 4


def test_accumulated_batches_are_one_step() -> None:
    """The gradients of x = 1 and x = 5, each halved; the activation is the last batch's."""
    rows = fit(linear([[2.0]]), *(torch.full((1, 1), x) for x in (1.0, 5.0, 1.0, 5.0)), accumulate_grad_batches=2)
    assert list(rows) == [1, 2]
    assert rows[1] == pytest.approx(
        {
            "activations/net/mean": 10, "activations/net/std": 0,
            "gradients/net": 3, "gradients/all": 3, "updates/net": 0.3 / 2,
        }
    )  # fmt: skip


class Counter(TorchFunctionMode):
    """How often a number leaves its tensor."""

    readers = (Tensor.tolist, Tensor.item, Tensor.cpu, Tensor.numpy, Tensor.__bool__, Tensor.__float__, Tensor.__int__)

    def __init__(self) -> None:
        self.reads = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += func in self.readers
        return func(*args, **(kwargs or {}))


def test_one_transfer_a_step() -> None:
    net = MLP(in_features=6, width=5, depth=3)
    recording = Recording(net)
    with Counter() as counter:
        net(torch.randn(4, 6)).sum().backward()
        recording.see_gradients()
        recording.stop()
        assert counter.reads == 0
        assert len(recording.read()) == 4 * 4 + 1 + 3
    assert counter.reads == 1


class Fails(nn.Module):
    def __init__(self, error: BaseException):
        super().__init__()
        self.layer, self.error = nn.Linear(2, 2), error

    def forward(self, x: Tensor) -> Tensor:
        torch.relu(self.layer(x))
        raise self.error


@pytest.mark.parametrize(("error", "seen"), [(ValueError("no"), ValueError), (KeyboardInterrupt(), SystemExit)])
def test_nothing_stays_when_a_step_fails(error: BaseException, seen: type[BaseException]) -> None:
    net = Fails(error)
    with pytest.raises(seen):
        fit(net, torch.randn(3, 2))
    assert not is_watched(net)


def test_nothing_stays_when_a_batch_is_skipped() -> None:
    class Skips(Module):
        def on_train_batch_start(self, batch: Tensor, index: int) -> int:  # type: ignore[override]
            return -1

    net = nn.Linear(2, 2)
    trainer(Memory()).fit(Skips(net, torch.sum, SGD), DataLoader([torch.randn(3, 2)], batch_size=None))
    assert not is_watched(net)


def test_weights_are_not_kept_after_the_step() -> None:
    """No cycle of references: a copy of a large net's weights is free at once, not when the collector comes."""
    import gc
    import weakref

    gc.disable()
    try:
        net = nn.Linear(2, 2)
        recording = Recording(net)
        net(torch.randn(3, 2)).sum().backward()
        recording.see_gradients()
        copy = weakref.ref(recording.before["net"][0][1])
        recording.stop()
        recording.read()
        del recording
        assert copy() is None
    finally:
        gc.enable()


def test_a_run_leaves_the_same_checkpoint_and_more_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the zoo's trainer, its loop and TensorBoard, with dropout."""
    settings = [*SMALL, "model.dropout=0.3", "trainer.max_epochs=1", "data_dir=/nowhere"]
    folders: list[Path] = []
    for extra in ([], [Diagnostics()]):
        monkeypatch.setattr(run_module, "build_callbacks", lambda cfg, extra=extra: extra)
        folders.append(run_module.run(compose([*settings, f"run_dir=run{len(extra)}"])).folder)
    assert_same(*(checkpoints.read(folder / "checkpoints" / "last.ckpt") for folder in folders))
    plain, watched = map(curves, folders)
    added = {tag: [step for step, _ in points] for tag, points in watched.items() if tag not in plain}
    names = ("c1", "c3", "c5", "f6", "output")
    expected = {f"{kind}/{name}" for kind in ("gradients", "updates") for name in names} | {"gradients/all"}
    expected |= {f"activations/{name}/{what}" for name in names for what in ("mean", "std", "dead")}
    assert added == {tag: [1, 4, 8] for tag in expected - {"activations/output/dead"}}
    assert {tag: watched[tag] for tag in plain} == plain
