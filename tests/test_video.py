"""Moving digits: what a frame, and frames out of order, can tell. C3D: the paper's table, and its twin without time."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import one_line
from scipy.stats import chi2_contingency
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dl_zoo.data.digits import Digits
from dl_zoo.data.moving_digits import MovingDigits
from dl_zoo.errors import UserError
from dl_zoo.models.c3d import C3D


def made(**settings: Any) -> MovingDigits:
    data = MovingDigits({}, **{"train_items": 1200, "eval_items": 240, **settings})
    data.setup()
    return data


def places(clips: Tensor) -> Tensor:
    """(N, T, 2): the centroid on the torus, in pixels, by the phase of the mass along each axis."""
    mass, size = clips[:, 0].double(), clips.shape[-1]
    turns = torch.exp(2j * torch.pi * torch.arange(size) / size)
    phases = [(mass.sum(3 - axis) * turns).sum(2).angle() for axis in (0, 1)]  # of rows, then of columns
    return torch.stack(phases, 2) * size / (2 * torch.pi)


def moves(clips: Tensor) -> Tensor:
    """(N, T - 1, 2): from frame to frame, the short way around."""
    size = clips.shape[-1]
    return (places(clips).diff(dim=1) + size / 2) % size - size / 2


# ---- the data ----------------------------------------------------------------------------------------------------


def test_clips_are_what_dims_say() -> None:
    data = made()
    clips, targets = data.splits["train"]
    assert isinstance(clips, Tensor)
    assert (clips.dtype, clips.shape) == (torch.uint8, (1200, 1, 8, 16, 16))
    assert data.dims == {"channels": 1, "frames": 8, "image_size": 16, "features": 2048, "num_classes": 4}
    assert targets.bincount().tolist() == [300] * 4
    batch, _ = next(iter(data.train_dataloader()))
    assert (batch.dtype, batch.shape) == (torch.float32, (32, 1, 8, 16, 16))
    assert 0 <= batch.min() < batch.max() <= 1
    mean, std = 0.25, 0.5
    scaled, _ = next(iter(made(mean=mean, std=std).train_dataloader()))
    assert torch.allclose(scaled, (batch - mean) / std, atol=1e-6)


def test_the_class_is_the_direction() -> None:
    clips, targets = made(size=32, slowest=2.0, fastest=3.0).splits["test"]
    assert isinstance(clips, Tensor)
    each = moves(clips)
    ways = torch.tensor([[-1, 0], [0, 1], [1, 0], [0, -1]])[targets]  # rows go down, columns to the right
    forwards = (each * ways[:, None]).sum(2)
    assert forwards.min() > 1.4
    assert forwards.max() < 3.6, "steadily, but for the rounding of places"
    speed = forwards.mean(1)
    assert 1.9 < speed.min() < 2.2
    assert 2.8 < speed.max() < 3.1
    across = (each * ways.flip(1)[:, None]).sum(2)
    assert across.std() > 5
    assert across.mean().abs() < 0.5


def independent(values: Tensor, targets: Tensor) -> bool:
    """Can no chi-squared test tell these values (N,) of one class from those of another?"""
    table = np.zeros((4, int(values.max()) + 1))
    np.add.at(table, (targets.numpy(), values.numpy()), 1)
    return chi2_contingency(table[:, table.sum(0) > 40]).pvalue > 1e-4


def test_a_frame_tells_nothing_of_the_class() -> None:
    clips, targets = made(train_items=16_000, size=8, frames=4).splits["train"]
    assert isinstance(clips, Tensor)
    for frame in range(4):
        for place in (places(clips[:, :, frame : frame + 1])[:, 0].floor() % 8).long().unbind(1):
            assert independent(place, targets)
        assert independent((clips[:, 0, frame].float().mean((1, 2)) / 2).long(), targets), "which scan it is"


@pytest.mark.parametrize("axis", [0, 1])
def test_out_of_order_all_classes_are_one_draw(axis: int) -> None:
    """How far two frames, next to each other or not, are apart: tells the class in order, and nothing out of order."""
    found = []
    for shuffled in (False, True):
        clips, targets = made(train_items=8000, frames=5, shuffled=shuffled).splits["train"]
        assert isinstance(clips, Tensor)
        distance = moves(clips)[..., axis].round().long() + 8
        spread = (places(clips)[..., axis].diff(dim=1).abs().amax(1)).long()
        found.append([independent(distance[:, 0], targets), independent(distance.abs().sum(1), targets)])
        assert not shuffled or independent(spread, targets)
    assert found == [[False, False], [True, True]]


def test_opposite_ways_have_the_same_places() -> None:
    random = np.random.RandomState
    data = made(frames=9, slowest=1.3, fastest=2.9)
    one, other = (data.places(random(3), np.full(50, way)) for way in (1, 3))
    assert (one[..., 1] == other[:, ::-1, 1]).all()
    assert (one[..., 0] == other[..., 0]).all()
    turned = data.places(random(3), np.full(50, 2))
    assert (np.sort(turned[..., 0] - turned[:, 4:5, 0]) == np.sort(one[..., 1] - one[:, 4:5, 1])).all()


def test_shuffled_clips_are_the_same_frames() -> None:
    plain, other = made(), made(shuffled=True)
    changed = 0
    for split in plain.splits:
        for one, two in zip(plain.splits[split][0], other.splits[split][0], strict=True):
            frames, mixed = (sorted(bytes(frame.numpy()) for frame in clip[0]) for clip in (one, two))
            assert frames == mixed
            changed += not torch.equal(one, two)
        assert torch.equal(plain.splits[split][1], other.splits[split][1])
    assert changed > 1600, "of 1,680 all but the few whose draw is the identity"
    clips = other.splits["train"][0]
    assert isinstance(clips, Tensor)
    assert moves(clips).std() > 1.1 * moves(plain.splits["train"][0]).std()


def test_splits_show_different_scans() -> None:
    digits, data = Digits({}).read(), made(size=8, slowest=0.1, fastest=0.2)
    for split, (clips, _) in data.splits.items():
        assert isinstance(clips, Tensor)
        theirs = {bytes(scan[0].numpy()) for scan in digits[split][0]}
        others = {bytes(scan[0].numpy()) for name in digits if name != split for scan in digits[name][0]} - theirs
        turned = {
            bytes(torch.roll(frame, (row, column), (0, 1)).contiguous().numpy())
            for frame in clips[:60, 0, 0]
            for row in range(8)
            for column in range(8)
        }
        assert len(turned & theirs) >= 50
        assert not turned & others


def test_noise_and_seeds() -> None:
    clips = made(noise=0.1).splits["val"][0]
    assert isinstance(clips, Tensor)
    assert clips.unique().numel() > 200
    clean = made().splits["val"][0]
    assert isinstance(clean, Tensor)
    grey = (clean > 80) & (clean < 170)  # where nothing is cut off
    assert (clips[grey].float() - clean[grey]).std().item() == pytest.approx(25.5, rel=0.03)
    assert torch.equal(made(seed=1).splits["val"][0], made(seed=2).splits["val"][0])
    pretended = MovingDigits({})
    pretended.pretend(5)
    assert pretended.splits["test"][0].shape == (5, 1, 8, 16, 16)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"std": 0.0}, "data.std=0.0: must be above 0"),
        ({"frames": 1}, "data.frames=1: must be at least 2, for a motion"),
        ({"size": 7}, "data.size=7: the scans are 8 pixels wide, and the square must hold one"),
        ({"fastest": 8.0}, "data.slowest=1.5, data.fastest=8.0: must be 0 < slowest <= fastest < 8"),
        ({"slowest": 0.0}, "data.slowest=0.0, data.fastest="),
        ({"noise": -1.0}, "data.noise=-1.0: must be at least 0"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError) as error:
        MovingDigits({}, **wrong)
    assert why in str(error.value)


# ---- the net -----------------------------------------------------------------------------------------------------

TABLE = {  # output of each layer, and its parameters
    "conv1a": ((64, 16, 112, 112), 5_248),
    "pool1": ((64, 16, 56, 56), 0),
    "conv2a": ((128, 16, 56, 56), 221_312),
    "pool2": ((128, 8, 28, 28), 0),
    "conv3a": ((256, 8, 28, 28), 884_992),
    "conv3b": ((256, 8, 28, 28), 1_769_728),
    "pool3": ((256, 4, 14, 14), 0),
    "conv4a": ((512, 4, 14, 14), 3_539_456),
    "conv4b": ((512, 4, 14, 14), 7_078_400),
    "pool4": ((512, 2, 7, 7), 0),
    "conv5a": ((512, 2, 7, 7), 7_078_400),
    "conv5b": ((512, 2, 7, 7), 7_078_400),
    "pool5": ((512, 1, 4, 4), 0),
    "fc6": ((4096,), 33_558_528),
    "fc7": ((4096,), 16_781_312),
    "fc8": ((101,), 413_797),
}


def seen_shapes(net: nn.Module, x: Tensor) -> dict[str, tuple[tuple[int, ...], int]]:
    found: dict[str, tuple[tuple[int, ...], int]] = {}

    def note(name: str, module: nn.Module, y: Tensor) -> None:
        found[name] = (tuple(y.shape[1:]), sum(p.numel() for p in module.parameters()))

    for name, module in net.named_modules():
        short = name.removeprefix("features.")
        if short.startswith(("conv", "pool", "fc")):
            module.register_forward_hook(lambda m, _, y, short=short: note(short, m, y))
    net(x)
    return found


def test_the_papers_table() -> None:
    with torch.device("meta"):
        net = C3D()
        found = seen_shapes(net, torch.zeros(1, 3, 16, 112, 112))
    assert found == TABLE
    assert list(found) == list(TABLE)
    assert sum(p.numel() for p in net.parameters()) == 78_409_573
    for layer in net.modules():
        if isinstance(layer, nn.Conv3d):
            assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3, 3), (1, 1, 1), (1, 1, 1))
            assert (layer.groups, layer.dilation) == (1, (1, 1, 1))
    pools = [layer.kernel_size for layer in net.modules() if isinstance(layer, nn.MaxPool3d)]
    assert pools == [(1, 2, 2)] + [(2, 2, 2)] * 4
    with torch.device("meta"):
        assert sum(p.numel() for p in C3D(num_classes=487).parameters()) == 79_991_015, "Sports-1M's"


def test_the_twin_is_the_same_net_in_space() -> None:
    with torch.device("meta"):
        net, twin = C3D(), C3D(one_frame=True)
        found = seen_shapes(twin, torch.zeros(1, 3, 16, 112, 112))
    for name, (shape, _) in found.items():
        assert shape == (TABLE[name][0] if len(shape) == 1 else (TABLE[name][0][0], 1, *TABLE[name][0][2:])), name
    for one, other in zip(net.modules(), twin.modules(), strict=True):
        if isinstance(one, nn.Conv3d):
            assert (other.kernel_size, other.padding) == ((1, *one.kernel_size[1:]), (0, *one.padding[1:]))


@pytest.mark.parametrize("one_frame", [False, True])
def test_which_frames_are_seen(one_frame: bool) -> None:
    torch.manual_seed(0)
    net = C3D(channels=1, num_classes=12, width=4, hidden=16, frames=9, image_size=20, one_frame=one_frame).double()
    clips = torch.rand(3, 1, 9, 20, 20, dtype=torch.float64, requires_grad=True)
    net.eval()(clips).square().sum().backward()
    assert clips.grad is not None
    assert clips.grad.abs().sum((0, 1, 3, 4)).bool().tolist() == [not one_frame or t == 4 for t in range(9)]
    with pytest.raises(ValueError, match=r"clips of \(8, 20, 20\): this net takes \(9, 20, 20\)"):
        net(clips[:, :, :8])


# ---- as one uses them --------------------------------------------------------------------------------------------

FEW = ["data.train_items=48", "data.eval_items=24", "model.width=4", "model.hidden=16", "trainer.max_epochs=1"]


@pytest.mark.parametrize("model", ["c3d", "c3d_frame"])
def test_a_run_draws_its_clips(model: str, cli: Any, tmp_path: Any) -> None:
    said = cli("train", f"model={model}", *FEW, "trainer=cpu", f"run_dir={tmp_path / 'run'}")
    assert said.code == 0, said.err
    tags = EventAccumulator(str(tmp_path / "run")).Reload().Tags()["images"]
    assert {"samples/test_clips", "confusion/test"} <= set(tags)
    assert cli("evaluate", str(tmp_path / "run")).code == 0
    assert one_line(cli("predict", str(tmp_path / "run"), str(tmp_path / "run" / "config.yaml")))


WRONG = {
    "model=resnet20 data=moving_digits": "model=resnet20 takes single pictures, and data=moving_digits has clips; "
    "model=c3d",
    "model=c3d data=digits": "model=c3d needs frames, which data=digits does not have; data=moving_digits has",
    "model=c3d data.frames=1": "data.frames=1: must be at least 2, for a motion",
}


@pytest.mark.parametrize("typed", WRONG)
def test_wrong_words(typed: str, cli: Any) -> None:
    assert one_line(cli("check", *typed.split(), "trainer=cpu", "logger=none")) == f"dl-zoo: {WRONG[typed]}"
