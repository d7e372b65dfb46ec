"""The claim of each regularizer, and what all functions of batches promise: pure, shape and dtype kept, any device."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.regularizers.crop_flip import crop_flip
from dl_zoo.regularizers.cutmix import cutmix, span
from dl_zoo.regularizers.cutout import cutout
from dl_zoo.regularizers.elastic import elastic
from dl_zoo.regularizers.l1 import l1
from dl_zoo.regularizers.l2 import l2
from dl_zoo.regularizers.mixup import beta, mixup
from dl_zoo.regularizers.rotate import rotate

Penalty = Callable[[nn.Module], Tensor]
Augment = Callable[[Tensor, Generator], Tensor]
Mix = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]

AUGMENTS: list[Augment] = [
    partial(rotate, degrees=30.0),
    partial(crop_flip, padding=2, flip=True),
    partial(cutout, size=3),
]
MIXES: list[Mix] = [partial(mixup, alpha=1.0), partial(cutmix, alpha=1.0)]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def name(function: Any) -> str:
    return function.func.__name__


def noise(*shape: int) -> Tensor:
    """Pictures without a black pixel, so that black is what a regularizer put there."""
    return torch.randint(1, 256, shape, generator=seeded(), dtype=torch.uint8)


# ---- penalties -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Weights of two and four dimensions, and what no penalty may touch: biases and a norm's scale."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.conv, self.norm = nn.Linear(2, 2), nn.Conv2d(1, 1, 2), nn.BatchNorm1d(7)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
            self.conv.weight.copy_(torch.tensor([0.5, -0.5, 4.0, 0.0]).view(1, 1, 2, 2))


PENALTIES: list[tuple[Penalty, float, Callable[[Tensor], Tensor]]] = [  # sum |w| = 11, sum w^2 = 30.5
    (partial(l1, strength=0.1), 1.1, lambda w: 0.1 * w.sign()),
    (
        partial(elastic, strength=0.1, mix=0.25),
        0.1 * (0.25 * 11 + 0.375 * 30.5),
        lambda w: 0.025 * w.sign() + 0.075 * w,
    ),
    (partial(elastic, strength=0.1, mix=1), 1.1, lambda w: 0.1 * w.sign()),
    (partial(elastic, strength=0.1, mix=0), 1.525, lambda w: 0.1 * w),
]


@pytest.mark.parametrize(("penalty", "value", "gradient"), PENALTIES)
def test_penalty_and_its_gradient(penalty: Penalty, value: float, gradient: Callable[[Tensor], Tensor]) -> None:
    net = Net()
    result = penalty(net)
    assert (result.shape, result.item()) == ((), pytest.approx(value))
    result.backward()
    for key, weight in net.named_parameters():
        if key in ("line.weight", "conv.weight"):
            torch.testing.assert_close(weight.grad, gradient(weight.detach()))
        else:
            assert weight.grad is None, key


def fitted(penalty: Penalty, x: Tensor, y: Tensor, start: Tensor, steps: int = 800) -> Tensor:
    """Weights of a linear regression by gradient descent at a rate of 0.01 on mean square + penalty."""
    net = nn.Linear(x.shape[1], 1, bias=False)
    net.weight.data = start.clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (F.mse_loss(net(x), y) + penalty(net)).backward()
        optimizer.step()
    return net.weight.detach()[0]


def test_l1_is_sparse_where_l2_of_like_shrinkage_is_not() -> None:
    """Five of forty inputs matter: both penalties shrink those by a tenth, and only L1 silences the rest."""
    generator = seeded()
    x, truth = torch.randn(200, 40, generator=generator), torch.zeros(40, 1)
    truth[:5] = 1
    y = x @ truth + 0.5 * torch.randn(200, 1, generator=generator)
    start = torch.randn(1, 40, generator=generator)
    lasso, ridge = (fitted(partial(f, strength=s), x, y, start).abs() for f, s in ((l1, 0.2), (l2, 0.11)))
    threshold = 0.005  # more than lr * strength = 0.002, about which L1 steps over zero
    silent, hushed = ((weights[5:] < threshold).float().mean().item() for weights in (lasso, ridge))
    assert lasso[:5].mean().item() == pytest.approx(ridge[:5].mean().item(), abs=0.05)
    assert silent > 0.8, f"of the irrelevant weights {silent:.0%} are silent under L1, {hushed:.0%} under L2"
    assert hushed < 0.3
    assert lasso.all(), "subgradient descent does not stop at zero"


def test_elastic_shares_a_weight_between_equal_inputs() -> None:
    x = torch.randn(100, 1, generator=seeded())
    start = torch.tensor([[0.9, 0.5]])
    lasso, mixed = (fitted(partial(elastic, strength=0.8, mix=mix), x.expand(-1, 2), x, start) for mix in (1.0, 0.5))
    assert (lasso[0] - lasso[1]).item() == pytest.approx(0.4, abs=1e-3), "L1 leaves the split as it found it"
    assert mixed.tolist() == pytest.approx([0.364, 0.364], abs=0.03)  # 0.8 / 2.2 at variance 1


@pytest.mark.parametrize("mix", [-0.1, 1.1, float("nan"), "half"])
def test_elastic_refuses_a_mix_that_is_no_share(mix: Any) -> None:
    with pytest.raises(UserError, match=r"regularizer\.elastic\.mix="):
        elastic(Net(), strength=0.1, mix=mix)


# ---- what all functions of batches promise ---------------------------------------------------------------------------


@pytest.mark.parametrize("augment", AUGMENTS, ids=name)
@pytest.mark.parametrize("shape", [(8, 3, 12, 20), (8, 1, 20, 12), (1, 2, 9, 9)], ids=str)
def test_augments_are_pure(augment: Augment, shape: tuple[int, ...]) -> None:
    images, global_state = noise(*shape), torch.get_rng_state()
    before = images.clone()
    first, again, other = (augment(images, seeded(seed)) for seed in (1, 1, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.dtype, first.shape) == (torch.uint8, images.shape)
    assert torch.equal(images, before), "the pictures are left as they were"
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("mix", MIXES, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_mixes_are_pure(mix: Mix, dtype: torch.dtype) -> None:
    inputs, targets, global_state = torch.randn(8, 3, 12, 20, dtype=dtype), torch.eye(8), torch.get_rng_state()
    before = inputs.clone()
    first, again, other = (mix(inputs, targets, seeded(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))
    assert [(part.dtype, part.shape) for part in first] == [(dtype, inputs.shape), (torch.float32, targets.shape)]
    assert torch.equal(inputs, before)
    assert torch.equal(targets, torch.eye(8))
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("mix", MIXES, ids=name)
def test_a_single_example_is_its_own_partner(mix: Mix) -> None:
    inputs, targets = torch.randn(1, 3, 12, 20), torch.tensor([[0.3, 0.7]])
    for seed in range(10):
        torch.testing.assert_close(mix(inputs, targets, seeded(seed)), (inputs, targets))


def test_the_draws_are_on_the_cpu_wherever_the_batch_is() -> None:
    images, targets = torch.zeros(4, 3, 12, 20, dtype=torch.uint8, device="meta"), torch.zeros(4, 10, device="meta")
    results = [augment(images, seeded()) for augment in AUGMENTS]
    results += [part for mix in MIXES for part in mix(images.float(), targets, seeded())]
    assert {result.device.type for result in results} == {"meta"}


# ---- rotate ----------------------------------------------------------------------------------------------------------


def centroid(images: Tensor) -> Tensor:
    """(B, 2): x to the right and y downwards, in pixels from the centre, of each picture (B, H, W)."""
    height, width = images.shape[1:]
    mass = images.double() / images.sum((1, 2), dtype=torch.float64).view(-1, 1, 1)
    x, y = torch.arange(width) - (width - 1) / 2, torch.arange(height) - (height - 1) / 2
    return torch.stack([(mass.sum(1) * x).sum(1), (mass.sum(2) * y).sum(1)], dim=1)


def angles(points: Tensor) -> Tensor:
    return torch.atan2(points[:, 1], points[:, 0]).rad2deg()


def test_rotation_lands_where_geometry_says() -> None:
    """A dot to the right in one channel and one above in the other stay on their circles, at right angles."""
    images = torch.zeros(400, 2, 41, 61, dtype=torch.uint8)
    images[:, 0, 19:22, 44:47] = 200  # 15 to the right
    images[:, 1, 9:12, 29:32] = 200  # 10 above
    turned = rotate(images, seeded(), degrees=40.0)
    right, above = centroid(turned[:, 0]), centroid(turned[:, 1])
    torch.testing.assert_close(right.norm(dim=1), torch.full((400,), 15.0, dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(above.norm(dim=1), torch.full((400,), 10.0, dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(angles(right) - angles(above), torch.full((400,), 90.0).double(), atol=1.0, rtol=0)
    uniform = torch.linspace(-40, 40, 400).double()
    torch.testing.assert_close(angles(right).sort().values, uniform, atol=6.0, rtol=0)  # 1.4 / sqrt(400) of 80


def test_no_degrees_is_the_identity() -> None:
    for shape in ((20, 3, 28, 28), (20, 1, 17, 64), (1, 1, 1, 1)):
        assert torch.equal(rotate(noise(*shape), seeded(), degrees=0.0), noise(*shape))


def test_left_and_right_are_as_likely() -> None:
    bars = torch.zeros(4000, 1, 11, 15, dtype=torch.uint8)
    bars[..., 7] = 255
    mean = rotate(bars, seeded(), degrees=60.0).float().mean(0)
    torch.testing.assert_close(mean, mean.flip(2), atol=6.0, rtol=0)  # the mean's deviation is up to 1.6
    assert mean[0, 0, :6].max() > 10, "there is something to compare"


def test_the_background_is_black_and_white_stays_white() -> None:
    turned = rotate(torch.full((200, 3, 21, 21), 255, dtype=torch.uint8), seeded(), degrees=45.0)
    y, x = torch.meshgrid(torch.arange(21) - 10, torch.arange(21) - 10, indexing="ij")
    assert (turned[..., x**2 + y**2 <= 100] == 255).all()
    assert (turned[..., 0, 0] == 0).float().mean() > 0.5


# ---- crop_flip -------------------------------------------------------------------------------------------------------


def windows(image: Tensor, padding: int, flip: bool) -> dict[bytes, tuple[bool, int, int]]:
    """All that may come of a picture (C, H, W), by loops: content -> (mirrored, down, across)."""
    padded = F.pad(image, [padding] * 4)
    _, height, width = image.shape
    found = {}
    for mirrored in (False, True)[: 1 + flip]:
        for down in range(2 * padding + 1):
            for across in range(2 * padding + 1):
                window = padded[:, down : down + height, across : across + width]
                found[(window.flip(2) if mirrored else window).numpy().tobytes()] = (mirrored, down, across)
    return found


def test_equal_pictures_get_many_different_crops() -> None:
    images = noise(1, 3, 32, 32).expand(64, -1, -1, -1)
    assert len(crop_flip(images, seeded(), padding=4, flip=True).unique(dim=0)) > 20
    assert len(crop_flip(images, seeded(), padding=4, flip=False).unique(dim=0)) > 20


@pytest.mark.parametrize("flip", [True, False])
def test_every_window_is_as_likely_and_nothing_else_comes(flip: bool) -> None:
    image = noise(3, 10, 14)
    known = windows(image, 2, flip)
    assert len(known) == 25 * (1 + flip)
    crops = crop_flip(image.expand(5000, -1, -1, -1), seeded(), padding=2, flip=flip)
    places = [known[crop.numpy().tobytes()] for crop in crops]
    counts = [places.count(place) for place in known.values()]
    expected = 5000 / len(known)
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    assert chi_square < 2 * len(known), counts  # its mean is len(known) - 1, its deviation sqrt of twice that
    assert abs(sum(mirrored for mirrored, *_ in places) - 2500 * flip) < 150 * flip + 1


def test_each_crop_is_of_its_own_picture() -> None:
    images = noise(50, 1, 8, 6)
    for image, crop in zip(images, crop_flip(images, seeded(), padding=3, flip=True), strict=True):
        assert crop.numpy().tobytes() in windows(image, 3, True)


def test_no_padding_and_no_flip_is_the_identity() -> None:
    assert torch.equal(crop_flip(noise(9, 3, 7, 5), seeded(), padding=0, flip=False), noise(9, 3, 7, 5))


@pytest.mark.parametrize("padding", [-1, 1.5, "4"])
def test_crop_flip_refuses_a_padding_that_is_none(padding: Any) -> None:
    with pytest.raises(UserError, match=r"regularizer\.crop_flip\.padding="):
        crop_flip(noise(1, 1, 4, 4), seeded(), padding=padding, flip=True)


# ---- cutout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 5])
def test_cutout_hides_one_square_that_may_hang_over(size: int) -> None:
    height, width = 12, 16
    images = noise(3000, 3, height, width)
    cut = cutout(images, seeded(), size=size)
    black = cut == 0
    assert torch.equal(cut, images.masked_fill(black, 0)), "the rest is as it was"
    assert torch.equal(black.any(1), black.all(1)), "all channels together"
    rows, columns = black[:, 0].any(2).sum(1), black[:, 0].any(1).sum(1)
    assert torch.equal(black[:, 0].sum((1, 2)), rows * columns), "a rectangle"
    edge = torch.cat([black[:, 0, [0, -1]].flatten(1), black[:, 0, :, [0, -1]].flatten(1)], dim=1).any(1)
    assert ((rows == size) & (columns == size))[~edge].all(), "whole where it does not touch an edge"
    assert int(rows.max()) == int(columns.max()) == size
    assert int(rows.min()) == int(columns.min()) == (size + 1) // 2, "centred on the first row or column"
    whole = (1 - (size - 1) / height) * (1 - (size - 1) / width)
    assert (rows * columns == size**2).float().mean().item() == pytest.approx(whole, abs=0.04)


def test_cutout_centres_cover_the_whole_picture() -> None:
    counts = (cutout(noise(9600, 1, 8, 12), seeded(), size=1) == 0).sum((0, 1)).double()
    assert counts.sum() == 9600, "a square of one pixel is its centre"
    assert ((counts - 100).square() / 100).sum() < 150  # chi square of 95 degrees of freedom: 95 and 14 about it


def test_cutout_larger_than_the_picture() -> None:
    assert not cutout(noise(20, 1, 4, 4), seeded(), size=8).any()


@pytest.mark.parametrize("size", [0, -3, 2.5, None])
def test_cutout_refuses_a_size_that_is_none(size: Any) -> None:
    with pytest.raises(UserError, match=r"regularizer\.cutout\.size="):
        cutout(noise(1, 1, 4, 4), seeded(), size=size)


# ---- mixup and cutmix ------------------------------------------------------------------------------------------------


def moments(alpha: float) -> tuple[float, float, float]:
    """Mean, variance and share outside of 0.1..0.9 of 4000 draws."""
    generator = seeded()
    draws = torch.tensor([beta(alpha, generator) for _ in range(4000)], dtype=torch.float64)
    assert ((draws >= 0) & (draws <= 1)).all()
    return draws.mean().item(), draws.var().item(), ((draws < 0.1) | (draws > 0.9)).double().mean().item()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1, 8.0])
def test_beta_has_its_moments(alpha: float) -> None:
    mean, variance, _ = moments(alpha)
    assert mean == pytest.approx(0.5, abs=0.03)
    assert variance == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.07)


def test_beta_is_u_shaped_flat_or_a_hill() -> None:
    outside = [moments(alpha)[2] for alpha in (0.2, 1.0, 8.0)]
    assert outside == [pytest.approx(0.66, abs=0.03), pytest.approx(0.2, abs=0.03), pytest.approx(0.0, abs=0.01)]


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), None])
def test_beta_refuses_an_alpha_that_is_none(alpha: Any) -> None:
    with pytest.raises(UserError, match="leave the regularizer out"):
        beta(alpha, seeded())


def test_mixup_mixes_inputs_as_it_mixes_targets() -> None:
    """With one-hot targets of their own, the rows of the mixed targets say which examples were mixed, and how."""
    inputs, shares = torch.randn(16, 3, 5, 7, dtype=torch.float64), set()
    for seed in range(20):
        mixed, targets = mixup(inputs, torch.eye(16, dtype=torch.float64), seeded(seed), alpha=1.0)
        torch.testing.assert_close(targets.sum(1), torch.ones(16, dtype=torch.float64))
        torch.testing.assert_close(mixed, torch.tensordot(targets, inputs, 1))
        alone = targets.diagonal() == 1  # partner of itself
        partner = torch.where(alone, torch.arange(16), targets.clone().fill_diagonal_(0).argmax(1))
        assert sorted(partner.tolist()) == list(range(16)), "a permutation"
        share = targets.diagonal()[~alone]
        torch.testing.assert_close(share, share[:1].expand_as(share))
        shares.add(round(share[0].item(), 6))
        torch.testing.assert_close(mixed, share[0] * inputs + (1 - share[0]) * inputs[partner])
    assert len(shares) == 20, "each batch has a lambda of its own"


def test_mixup_takes_inputs_of_any_shape() -> None:
    for shape in ((6,), (6, 9), (6, 4, 9)):
        inputs = torch.randn(shape)
        mixed, targets = mixup(inputs, torch.eye(6), seeded(), alpha=1.0)
        torch.testing.assert_close(mixed, torch.tensordot(targets, inputs, 1))


def test_cutmix_shares_are_the_pasted_areas() -> None:
    """Each picture is all of its own number: its pixels say whose they are. 8 * 16 pixels, so shares are exact."""
    inputs = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 2, 8, 16).contiguous()
    boxes = set()
    for seed in range(60):
        mixed, targets = cutmix(inputs, torch.eye(12), seeded(seed), alpha=1.0)
        owned = torch.stack([(mixed[:, 0] == number).float().mean((1, 2)) for number in range(12)], dim=1)
        assert torch.equal(owned, targets)
        assert torch.equal(mixed[:, 0], mixed[:, 1])
        pasted = mixed[:, 0] != inputs[:, 0]  # (B, H, W), nowhere where the partner is itself
        box = pasted.any(0)
        assert box.sum() == box.any(1).sum() * box.any(0).sum(), "a rectangle"
        assert all(torch.equal(each, box) or not each.any() for each in pasted), "one for the batch"
        boxes.add(box.numpy().tobytes())
    assert len(boxes) > 40


def test_cutmix_boxes_have_the_area_and_go_everywhere() -> None:
    """1 - lambda of the picture before the edge cuts it, so at most that; at alpha = 1 the mean of both is known."""
    inputs, targets = torch.stack([torch.zeros(1, 32, 64), torch.ones(1, 32, 64)]), torch.eye(2)
    areas, covered, generator = [], torch.zeros(32, 64), seeded()
    for _ in range(2000):
        drawn = Generator()
        drawn.set_state(generator.get_state())
        most = 1 - beta(1.0, drawn)
        mixed, shares = cutmix(inputs, targets, generator, alpha=1.0)
        box = mixed[0, 0]
        if not box.any():  # of itself, or nothing
            continue
        areas.append(box.mean().item())
        assert areas[-1] == shares[0, 1].item()
        assert areas[-1] <= (most**0.5 + 1 / 32) * (most**0.5 + 1 / 64), "rounded by less than a pixel"
        covered += box
    assert 900 < len(areas) < 1100
    # Of a side s the edges leave s - s^2 / 4 on average; so of the area E[s^2 - s^3 / 2 + s^4 / 16], s^2 uniform.
    assert sum(areas) / len(areas) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.03)
    corners = [covered[y, x].item() / len(areas) for y in (0, -1) for x in (0, -1)]
    assert min(corners) > 0.05, corners
    assert covered[16, 32] / len(areas) > 0.35


def test_span_is_clipped() -> None:
    assert span(10, 0.0, 1.0) == slice(0, 5)
    assert span(10, 1.0, 1.0) == slice(5, 10)
    assert span(10, 0.3, 2.0) == slice(0, 10)
    assert span(10, 0.5, 0.0) == slice(5, 5)


def test_cutmix_wants_pictures() -> None:
    with pytest.raises(UserError, match=r"but the inputs are \(4, 7\); use mixup"):
        cutmix(torch.zeros(4, 7), torch.eye(4), seeded(), alpha=1.0)


# ---- YAMLs -----------------------------------------------------------------------------------------------------------

PLACES = {
    "l1": None,
    "elastic": None,
    "rotate": "data.augment.rotate",
    "crop_flip": "data.augment.crop_flip",
    "cutout": "data.augment.cutout",
    "mixup": "data.mix.mixup",
    "cutmix": "data.mix.cutmix",
}


@pytest.mark.parametrize("key", PLACES)
def test_yaml(key: str) -> None:
    """Each option binds its function, with its own numbers for all arguments that are not the batch or the net."""
    cfg = compose([f"regularizer={key}"])
    assert list(cfg.regularizer) == [key]
    numbers = {k: v for k, v in cfg.regularizer[key].items() if not str(k).startswith("_")}
    function = instantiate(OmegaConf.select(cfg, PLACES[key] or f"regularizer.{key}"))
    assert function.func is get_method(f"dl_zoo.regularizers.{key}.{key}")
    assert function.keywords == numbers
    batches: dict[tuple[str, ...], tuple[Any, ...]] = {
        ("net",): (Net(),),
        ("images", "generator"): (noise(2, 1, 8, 8), seeded()),
        ("inputs", "targets", "generator"): (torch.zeros(2, 1, 8, 8), torch.eye(2), seeded()),
    }
    given = tuple(k for k in inspect.signature(function.func).parameters if k not in numbers)
    function(*batches[given])
