"""Augmentation of pictures by the batch: each function is its definition, picture by picture, with draws of its own."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TV

from dl_zoo import trust
from dl_zoo.compose import compose, resolve
from dl_zoo.errors import UserError
from dl_zoo.regularizers import color_jitter as light
from dl_zoo.regularizers.color_jitter import color_jitter
from dl_zoo.regularizers.crop_flip import crop_flip
from dl_zoo.regularizers.cutout import cutout
from dl_zoo.regularizers.flip import flip
from dl_zoo.regularizers.pca_noise import EIGENVALUES, EIGENVECTORS, pca_noise
from dl_zoo.regularizers.random_resized_crop import boxes, random_resized_crop
from dl_zoo.regularizers.resample import placed, resample
from dl_zoo.regularizers.rotate import rotate
from dl_zoo.regularizers.scale_jitter import scale_jitter
from dl_zoo.regularizers.shift import shift

Augment = Callable[[Tensor, Generator], Tensor]
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
NEW: list[Augment] = [
    flip,
    partial(random_resized_crop, size=None, area=AREA, ratio=RATIO),
    partial(scale_jitter, size=None, lower=1.143, upper=2.286),
    partial(color_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    partial(pca_noise, strength=0.1),
]
ALL = [*NEW, partial(crop_flip, padding=4, flip=True), partial(shift, pixels=2), partial(rotate, degrees=15.0)]
ALL += [partial(cutout, size=8)]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def name(function: Any) -> str:
    return getattr(function, "func", function).__name__


def scene(count: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Pictures with smooth and sharp parts, all colours among them; no two alike."""
    noise = torch.rand(count, channels, height, width, generator=seeded())
    smooth = F.interpolate(noise[:, :, ::4, ::4], (height, width), mode="bilinear")
    return (255 * torch.where(noise[:, :1] > 0.8, noise, smooth)).round().byte()


def apart(one: Tensor, other: Tensor) -> int:
    """The largest difference of two uint8 batches, in levels."""
    return int((one.int() - other.int()).abs().max())


# ---- what all of them promise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", NEW, ids=name)
@pytest.mark.parametrize("shape", [(8, 3, 12, 20), (1, 3, 9, 9)], ids=str)
def test_they_are_pure(augment: Augment, shape: tuple[int, ...]) -> None:
    images, global_state = scene(shape[0], *shape[2:]), torch.get_rng_state()
    before = images.clone()
    first, again, others = augment(images, seeded(1)), augment(images, seeded(1)), map(seeded, range(2, 8))
    assert torch.equal(first, again)
    assert any(not torch.equal(first, augment(images, other)) for other in others)
    assert (first.dtype, first.shape, first.is_contiguous()) == (torch.uint8, images.shape, True)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("augment", ALL, ids=name)
def test_equal_pictures_of_a_batch_become_different_ones(augment: Augment) -> None:
    images = scene(1, 24, 24).expand(32, -1, -1, -1)
    assert len(augment(images, seeded()).unique(dim=0)) >= (2 if augment is flip else 12)


@pytest.mark.parametrize("augment", ALL, ids=name)
def test_the_draws_are_on_the_cpu_wherever_the_batch_is(augment: Augment) -> None:
    images = torch.zeros(4, 3, 24, 24, dtype=torch.uint8, device="meta")
    assert augment(images, seeded()).device.type == "meta"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("augment", ALL, ids=name)
def test_pictures_on_the_device_get_the_same_draws(augment: Augment) -> None:
    images = scene(32, 40, 40)
    here, there = augment(images, seeded()), augment(images.cuda(), seeded())
    assert there.is_cuda
    assert apart(here, there.cpu()) <= 1
    assert (here == there.cpu()).float().mean() > 0.99


@pytest.mark.parametrize("augment", NEW, ids=name)
def test_its_yaml_builds_it(augment: Augment) -> None:
    cfg = compose([f"regularizer=[{name(augment)}]"])
    cfg = resolve(cfg, {**cfg.data.dims, "channels": 3, "image_size": 32})
    built = trust.build(cfg.data.augment[name(augment)])
    images = scene(4, 40, 40)
    assert built(images, seeded()).shape[2] == (32 if "size" in cfg.regularizer[name(augment)] else 40)
    assert not torch.equal(built(scene(4, 32, 32), seeded()), scene(4, 32, 32))


# ---- flip ------------------------------------------------------------------------------------------------------------


def test_flip_mirrors_half_and_leaves_half() -> None:
    images = scene(400, 5, 6)
    flipped = flip(images, seeded())
    mirrored = (flipped == images.flip(3)).all(3).all(2).all(1)
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 150 < int(mirrored.sum()) < 250


# ---- boxes and sizes -------------------------------------------------------------------------------------------------


def whole(count: int, room: int, length: int, generator: Generator) -> Tensor:
    return placed(room - torch.full((count,), float(length)), torch.rand(count, generator=generator))


@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [((32, 32), (20, 27), (32, 32)), ((96, 64), (90, 60), (24, 24)), ((40, 30), (5, 30), (17, 11))],
    ids=["larger", "smaller", "both"],
)
def test_a_box_cut_out_and_resized(shape: tuple[int, int], box: tuple[int, int], size: tuple[int, int]) -> None:
    images, generator = scene(16, *shape), seeded()
    top, left = whole(16, shape[0], box[0], generator), whole(16, shape[1], box[1], generator)
    h, w = (torch.full((16,), float(length)) for length in box)
    ours = resample(images, (top, h), (left, w), *size, inside=True)
    for i in range(16):
        place = [int(top[i]), int(left[i]), *box]
        assert apart(ours[i], TV.resized_crop(images[i], *place, list(size), antialias=True)) <= 2
        exact = TV.resized_crop(images[i].float(), *place, list(size), antialias=True).round().byte()
        assert apart(ours[i], exact) <= 1


def test_the_whole_picture_at_its_own_size_is_itself() -> None:
    images = scene(6, 13, 17)
    nothing = torch.zeros(6)
    down, across = (nothing, nothing + 13), (nothing, nothing + 17)
    assert torch.equal(resample(images, down, across, 13, 17, inside=True), images)
    assert torch.equal(random_resized_crop(images, seeded(), None, (1, 1), (17 / 13, 17 / 13)), images)
    assert torch.equal(scale_jitter(images, seeded(), None, 1, 1), images)


def test_boxes_are_as_the_paper_says() -> None:
    (top, h), (left, w) = boxes(20000, 200, 200, seeded(), AREA, RATIO)
    share, ratio = h * w / 200**2, w / h
    assert share.min() > 0.075
    assert share.max() <= 1
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    # Up to 3/4 of the area every ratio fits into a square, so that part is even: its quarters are equally full.
    counts = share.histc(4, 0.08, 0.75)
    assert (counts / counts.mean() - 1).abs().max() < 0.06
    assert ratio.log().mean().abs() < 0.01
    for start, length in ((top, h), (left, w)):
        assert (start >= 0).all()
        assert (start + length <= 200).all()
        assert torch.equal(start, start.round())
        inner = (start / (200 - length))[length < 150]
        assert abs(inner.mean() - 0.5) < 0.02


def test_where_no_box_fits_the_whole_picture_is_taken() -> None:
    (top, h), (left, w) = boxes(5, 8, 80, seeded(), (1.0, 1.0), RATIO)
    assert torch.equal(torch.stack([top, h, left, w]), torch.tensor([0.0, 8, 0, 80]).double()[:, None].expand(4, 5))


def test_random_resized_crop_is_its_boxes() -> None:
    images = scene(24, 48, 40)
    ours = random_resized_crop(images, seeded(3), 32, AREA, RATIO)
    (top, h), (left, w) = boxes(24, 48, 40, seeded(3), AREA, RATIO)
    for i in range(24):
        place = [int(each[i]) for each in (top, left, h, w)]
        assert apart(ours[i], TV.resized_crop(images[i], *place, [32, 32], antialias=True)) <= 2


@pytest.mark.parametrize(("height", "width", "size"), [(40, 40, 32), (48, 36, 32), (30, 50, 24), (64, 64, 16)])
def test_scale_jitter_resizes_the_whole_and_cuts_then(height: int, width: int, size: int) -> None:
    """Against the windows of the rescaled picture, one of which it must be."""
    images = scene(12, height, width)
    ours = scale_jitter(images, seeded(5), size, 1.143, 2.286)
    scale, y, x = torch.rand(3, 12, generator=seeded(5), dtype=torch.float64)
    for i in range(12):
        side = size * (1.143 + float(scale[i]) * 1.143)
        new = [round(side * length / min(height, width)) for length in (height, width)]
        large = TV.resize(images[i], new, antialias=True)
        top, left = (math.floor(float(u[i]) * (n - size + 1)) for u, n in ((y, new[0]), (x, new[1])))
        assert apart(ours[i], large[:, top : top + size, left : left + size]) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"area": (0.0, 1.0)}, {"area": (0.5, 0.2)}, {"area": (0.5, 1.2)}, {"ratio": (0, 1)}, {"ratio": (2, 1)},
        {"size": 0}, {"size": 2.5},
    ],
    ids=str,
)  # fmt: skip
def test_random_resized_crop_refuses_what_makes_no_box(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"regularizer\.random_resized_crop\.{next(iter(arguments))}="):
        random_resized_crop(scene(1, 8, 8), seeded(), **{"size": None, "area": AREA, "ratio": RATIO, **arguments})


@pytest.mark.parametrize(("lower", "upper"), [(0.9, 2.0), (2.0, 1.5), (1.0, math.inf), (math.nan, 2.0)])
def test_scale_jitter_refuses_a_window_beyond_the_picture(lower: float, upper: float) -> None:
    with pytest.raises(UserError, match=r"lower=.*upper="):
        scale_jitter(scene(1, 8, 8), seeded(), None, lower, upper)


# ---- light -----------------------------------------------------------------------------------------------------------

DEFINITIONS = {
    "brightness": TV.adjust_brightness,
    "contrast": TV.adjust_contrast,
    "saturation": TV.adjust_saturation,
    "hue": TV.adjust_hue,
}


@pytest.mark.parametrize("change", DEFINITIONS)
def test_each_change_is_torchvisions(change: str) -> None:
    pixels = scene(8, 20, 24).float() / 255
    pixels[0] = pixels[0].mean(0)  # grey has no hue
    pixels[1], pixels[2] = 0, 1
    low, high = (-0.5, 0.5) if change == "hue" else (0.0, 2.5)
    draws = torch.linspace(low, high, 8).view(-1, 1, 1, 1)
    ours = light.CHANGES[change](pixels, draws)
    for i in range(8):
        theirs = DEFINITIONS[change](pixels[i], float(draws[i]))
        torch.testing.assert_close(ours[i], theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter_is_the_changes_one_by_one(channels: int) -> None:
    images = scene(10, 16, 20, channels)
    strengths = {"brightness": 0.6, "contrast": 1.4, "saturation": 0.7, "hue": 0.3}
    orders = set()
    for seed in range(4):
        ours = color_jitter(images, seeded(seed), **strengths)
        generator = seeded(seed)
        draws, order = torch.rand(4, 10, generator=generator), torch.randperm(4, generator=generator).tolist()
        orders.add(tuple(order))
        for i in range(10):
            picture = images[i].float() / 255
            for n in order:
                change, s = list(strengths.items())[n]
                low, high = (-s, s) if change == "hue" else (max(0, 1 - s), 1 + s)
                picture = DEFINITIONS[change](picture, low + float(draws[n, i]) * (high - low))
            assert apart(ours[i], (picture * 255).round().byte()) <= 1
    assert len(orders) > 1


def test_no_change_is_the_identity() -> None:
    images = scene(4, 9, 9)
    assert torch.equal(color_jitter(images, seeded(), 0, 0, 0, 0), images)
    assert torch.equal(pca_noise(images, seeded(), 0), images)
    assert apart(light.hued(images.float() / 255, torch.zeros(4, 1, 1, 1)).mul(255).round().byte(), images) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("brightness", -0.1), ("contrast", math.nan), ("saturation", math.inf), ("hue", 0.6)]
)
def test_color_jitter_refuses_what_is_no_strength(key: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"regularizer\.color_jitter\.{key}="):
        color_jitter(
            scene(1, 4, 4), seeded(), **{"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, key: value}
        )


def test_colours_are_of_colour_pictures() -> None:
    with pytest.raises(UserError, match="needs 3; leave it out"):
        pca_noise(scene(1, 4, 4, 1), seeded(), strength=0.1)
    with pytest.raises(UserError, match="needs 1 or 3; leave it out"):
        color_jitter(scene(1, 4, 4, 2), seeded(), 0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_pca_noise_refuses_what_is_no_deviation(strength: float) -> None:
    with pytest.raises(UserError, match=r"regularizer\.pca_noise\.strength="):
        pca_noise(scene(1, 4, 4), seeded(), strength=strength)


def test_pca_noise_is_its_equation() -> None:
    images = scene(6, 7, 8)
    ours, alpha = pca_noise(images, seeded(2), strength=0.3), 0.3 * torch.randn(6, 3, generator=seeded(2))
    for i in range(6):
        added = [
            255 * sum(EIGENVECTORS[c][k] * float(alpha[i, k]) * EIGENVALUES[k] for k in range(3)) for c in range(3)
        ]
        slow = (images[i].double() + torch.tensor(added).double()[:, None, None]).round().clamp(0, 255).byte()
        assert apart(ours[i], slow) <= 1


def test_pca_noise_lies_along_the_axes() -> None:
    """Of 4000 draws the colours' covariance has the given eigenvectors, and the eigenvalues' squares."""
    grey = torch.full((4000, 3, 1, 1), 127, dtype=torch.uint8)
    added = (pca_noise(grey, seeded(), strength=0.5).float().flatten(1) - 127) / 255
    values, vectors = torch.linalg.eigh(added.T.cov())
    axes = torch.tensor(EIGENVECTORS)
    torch.testing.assert_close(axes.T @ axes, torch.eye(3), atol=1e-3, rtol=0)
    assert abs(float(vectors[:, 2] @ axes[:, 0])) > 0.99
    assert float(values[2].sqrt()) == pytest.approx(0.5 * EIGENVALUES[0], rel=0.05)
