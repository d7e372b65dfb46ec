"""Layers by hand, forwards and backwards, beside torch's and the zoo's own nets, in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from dl_zoo.from_scratch import batch_norm, convolution, dropout, initialisation, lenet, losses, mlp
from dl_zoo.from_scratch.activations import ACTIVATIONS
from dl_zoo.from_scratch.mlp import Layer
from dl_zoo.models.lenet5 import LeNet5
from dl_zoo.models.mlp import MLP

F64 = torch.float64


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    generator = Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, dtype=F64, generator=generator)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def layer_of(module: nn.Linear | nn.Conv2d) -> Layer:
    return Layer(module.weight.detach().clone(), module.bias.detach().clone())


# ---- nets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "linear"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_mlp_by_hand_is_the_zoos(activation: str, depth: int, normal: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    net = MLP(in_features=7, num_classes=4, width=5, depth=depth, activation=activation).to(F64)
    x, classes = normal(6, 7).requires_grad_(), torch.tensor([0, 1, 2, 3, 0, 1])
    logits = net(x)
    F.cross_entropy(logits, classes).backward()
    modules = [*net.layers, net.head]
    layers, f = [layer_of(module) for module in modules], ACTIVATIONS[activation]
    trace = mlp.forward(layers, x.detach(), f)
    close(trace.activations[-1], logits.detach())
    _, error = losses.cross_entropy(trace.activations[-1], classes)
    gradients, by_x = mlp.backward(layers, trace, error, f)
    assert x.grad is not None
    close(by_x, x.grad)
    for found, module in zip(gradients, modules, strict=True):
        close(found.w, module.weight.grad)
        close(found.b, module.bias.grad)


def test_twenty_steps_of_an_mlp_end_where_torchs_do(normal: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    net = MLP(in_features=7, num_classes=4, width=5, depth=2).to(F64)
    modules = [*net.layers, net.head]
    layers, optimizer = [layer_of(module) for module in modules], torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(20):
        x, classes = normal(6, 7), torch.tensor([0, 1, 2, 3, 0, 1])
        theirs = F.cross_entropy(net(x), classes)
        optimizer.zero_grad()
        theirs.backward()
        optimizer.step()
        layers, ours = mlp.step(layers, x, lambda z, y=classes: losses.cross_entropy(z, y), 0.3)
        close(ours, theirs.detach())
    for ours, module in zip(layers, modules, strict=True):
        close(ours.w, module.weight.detach())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lenet_by_hand_is_the_zoos(activation: str, normal: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    theirs = LeNet5(activation=activation).to(F64)
    named = {name: layer_of(m) for name, m in theirs.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    c1, c3, c5, *others = named.values()
    ours = lenet.LeNet(c1, c3, [Layer(c5.w.flatten(1), c5.b), *others])
    x, classes, f = normal(3, 1, 32, 32).requires_grad_(), torch.tensor([7, 0, 3]), ACTIVATIONS[activation]
    trace = lenet.forward(ours, x.detach(), f)
    logits = theirs(x)
    close(trace.logits, logits.detach())
    F.cross_entropy(logits, classes).backward()
    _, error = losses.cross_entropy(trace.logits, classes)
    gradients, by_x = lenet.backward(ours, trace, error, f)
    assert x.grad is not None
    close(by_x, x.grad)
    found = [gradients.c1, gradients.c3, *gradients.dense]
    modules = [m for m in theirs.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for each, module in zip(found, modules, strict=True):
        close(each.w, module.weight.grad.reshape(each.w.shape))
        close(each.b, module.bias.grad)
    after, loss = lenet.step(ours, x.detach(), lambda z: losses.cross_entropy(z, classes), 0.1, f)
    close(after.c3.w, c3.w - 0.1 * gradients.c3.w)
    assert losses.cross_entropy(lenet.forward(after, x.detach(), f).logits, classes)[0] < loss


# ---- convolution and pooling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 2), (2, 1), (3, 0)])
def test_convolution_by_columns_is_torchs(stride: int, padding: int, normal: Callable[..., Tensor]) -> None:
    x, w, b = normal(2, 3, 9, 8).requires_grad_(), normal(4, 3, 3, 3).requires_grad_(), normal(4).requires_grad_()
    theirs = F.conv2d(x, w, b, stride, padding)
    error = normal(*theirs.shape)
    expected = torch.autograd.grad(theirs, [x, w, b], error)
    x0, w0, b0 = (each.detach() for each in (x, w, b))
    close(convolution.convolve(x0, w0, b0, stride, padding), theirs.detach())
    for ours, other in zip(convolution.convolve_backward(error, x0, w0, stride, padding), expected, strict=True):
        close(ours, other)
    k, wide = 3, convolution.padded(x0, padding)
    close(convolution.im2col(wide, k, stride), F.unfold(wide, k, stride=stride))


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_is_torchs_where_a_row_is_left_over_and_where_all_are_alike(
    kind: str, normal: Callable[..., Tensor]
) -> None:
    theirs = {"max": F.max_pool2d, "average": F.avg_pool2d}[kind]
    ours = getattr(convolution, f"{kind}_pool")
    back = getattr(convolution, f"{kind}_pool_backward")
    for x in (normal(2, 3, 7, 6), torch.zeros(2, 3, 7, 6, dtype=F64)):
        x.requires_grad_()
        y = theirs(x, 2)
        error = normal(*y.shape)
        close(ours(x.detach(), 2), y.detach())
        close(back(error, x.detach(), 2), torch.autograd.grad(y, x, error)[0])


# ---- norm, dropout, first weights ------------------------------------------------------------------------------------


def test_batch_norm_is_torchs_in_training_and_in_evaluation(normal: Callable[..., Tensor]) -> None:
    theirs = nn.BatchNorm1d(4).to(F64)
    gamma, beta = normal(4), normal(4)
    with torch.no_grad():
        theirs.weight.copy_(gamma)
        theirs.bias.copy_(beta)
    running = batch_norm.Running(torch.zeros(4, dtype=F64), torch.ones(4, dtype=F64))
    for _ in range(3):
        x = (3 * normal(5, 4) + 1).requires_grad_()
        y, running, kept = batch_norm.batch_norm(x.detach(), gamma, beta, running)
        expected = theirs(x)
        close(y, expected.detach())
        error = normal(5, 4)
        slopes = torch.autograd.grad(expected, [x, theirs.weight, theirs.bias], error)
        for ours, other in zip(batch_norm.batch_norm_backward(error, gamma, kept), slopes, strict=True):
            close(ours, other)
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    close(running.mean, theirs.running_mean)
    close(running.variance, theirs.running_var)
    x = normal(1, 4)
    close(batch_norm.batch_norm_evaluation(x, gamma, beta, running), theirs.eval()(x).detach())
    with pytest.raises(ValueError, match="one example has no variance"):
        batch_norm.batch_norm(x, gamma, beta, running)


def test_dropout_keeps_the_mean_and_goes_back_the_way_it_came(normal: Callable[..., Tensor]) -> None:
    x = torch.ones(200, 500, dtype=F64)
    mask = dropout.mask_of(x, 0.2, Generator().manual_seed(0))
    assert set(mask.unique().tolist()) == {0.0, 1.25}
    assert float((mask == 0).double().mean()) == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 100_000))
    y = normal(200, 500).requires_grad_()
    error = normal(200, 500)
    torchs = torch.autograd.grad(y * mask, y, error)[0]
    close(dropout.dropout_backward(error, mask), torchs)
    close(dropout.dropout(y.detach(), mask), (y * mask).detach())
    assert torch.equal(dropout.mask_of(x, 0.0, Generator()), x)
    with pytest.raises(ValueError, match=r"p=1: must be at least 0 and below 1"):
        dropout.mask_of(x, 1, Generator())


@pytest.mark.parametrize("shape", [(30, 50), (16, 8, 3, 5)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (initialisation.xavier_normal, nn.init.xavier_normal_),
        (initialisation.he_normal, lambda w, generator: nn.init.kaiming_normal_(w, generator=generator)),
        (initialisation.xavier_uniform, nn.init.xavier_uniform_),
        (initialisation.he_uniform, lambda w, generator: nn.init.kaiming_uniform_(w, generator=generator)),
    ],
)
def test_first_weights_are_torchs_of_the_same_draws(
    shape: tuple[int, ...], ours: Callable[..., Tensor], theirs: Callable[..., Tensor]
) -> None:
    found = ours(shape, Generator().manual_seed(3))
    expected = theirs(torch.empty(shape), generator=Generator().manual_seed(3))
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-7)


def test_weights_of_zero_keep_the_symmetry(normal: Callable[..., Tensor]) -> None:
    """Units that begin alike stay alike, and behind zeros nothing moves."""
    x, classes = normal(6, 7), torch.tensor([0, 1, 2, 3, 0, 1])
    zeros = [
        Layer(torch.zeros(n_out, n_in, dtype=F64), torch.zeros(n_out, dtype=F64)) for n_in, n_out in ((7, 5), (5, 4))
    ]
    alike = [Layer(layer.w + 0.3, layer.b) for layer in zeros]
    for first, still in ((zeros, True), (alike, False)):
        layers = first
        for _ in range(5):
            layers, _ = mlp.step(layers, x, lambda z: losses.cross_entropy(z, classes), 0.5, ACTIVATIONS["tanh"])
        assert (layers[0].w == layers[0].w[:1]).all()
        assert bool((layers[0].w == 0).all()) == still
