"""GAN and DCGAN: layer tables, losses and their gradients, the game's steps, counting, resuming, and its failures."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from conftest import Said, assert_same, assert_same_run, curves, one_line
from torch import Tensor, nn
from torch.optim import Adam

from dl_zoo import checkpoints
from dl_zoo.commands.info import NOISE
from dl_zoo.compose import compose
from dl_zoo.data.gaussian import Gaussian
from dl_zoo.errors import UserError
from dl_zoo.models.dcgan import DCGAN
from dl_zoo.models.gan import GAN as Multilayer
from dl_zoo.probes.moments import moments
from dl_zoo.probes.saturation import saturation
from dl_zoo.run import Result, run
from dl_zoo.tasks import adversarial
from dl_zoo.tasks.gan import GAN

TINY = ["model.width=16", "model.units=8", "data.batch_size=128", "trainer=cpu", "trainer.max_epochs=2"]
TINY = ["model=gan", *TINY, "trainer.log_every_n_steps=4", "pictures=false", "optimizer.betas=[0.5,0.999]"]
adam = partial(Adam, lr=2e-4, betas=(0.5, 0.999))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def played(*words: str) -> Result:
    return run(compose([*TINY, "logger=none", *words]), quiet=True)


def small(**arguments: Any) -> Multilayer:
    sizes = {"features": 2, "channels": None, "noise": 3, "width": 16, "units": 16, "pieces": 1, "output": "linear"}
    return Multilayer(**{**sizes, "dropout": 0.0, "input_dropout": 0.0, **arguments})


class Points(pl.LightningDataModule):
    """The same four batches of 2-d points in each epoch."""

    def __init__(self, count: int = 4, size: int = 32):
        super().__init__()
        self.batches = [torch.randn(size, 2, generator=torch.Generator().manual_seed(i)) for i in range(count)]

    def train_dataloader(self) -> Any:
        return self  # torch's own loader would draw a random number

    def __iter__(self) -> Any:
        return iter([(batch, torch.zeros(len(batch))) for batch in self.batches])

    def __len__(self) -> int:
        return len(self.batches)

    test_dataloader = val_dataloader = train_dataloader


def trainer(**settings: Any) -> pl.Trainer:
    usual = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(**{**usual, "accelerator": "cpu", "enable_model_summary": False, **settings})


# ---- the nets ----------------------------------------------------------------------------------------------------


def table(net: nn.Module, *inputs: Tensor) -> list[tuple[Any, ...]]:
    """Rows (kind, maps, pixels, kernel, stride, padding, parameters) of the layers with weights, in order of use."""
    rows: list[tuple[Any, ...]] = []

    def note(layer: Any, _: Any, output: Tensor) -> None:
        window = (layer.kernel_size[0], layer.stride[0], layer.padding[0]) if hasattr(layer, "stride") else ()
        rows.append((type(layer).__name__, *output.shape[1::2], *window, sum(p.numel() for p in layer.parameters())))

    hooks = [
        each.register_forward_hook(note) for each in net.modules() if not [*each.children()] and [*each.parameters()]
    ]
    with torch.no_grad():
        net(*inputs)
    for hook in hooks:
        hook.remove()
    return rows


def test_layers_of_dcgan() -> None:
    """Radford et al. 2015, section 3, in the form of 64 filters and 4x4 kernels."""
    with torch.device("meta"):
        net = DCGAN()
        made, judged = table(net.generator, torch.zeros(2, 100)), table(net.discriminator, torch.zeros(2, 3, 64, 64))
    assert made == [
        ("ConvTranspose2d", 512, 4, 4, 1, 0, 819_200), ("BatchNorm2d", 512, 4, 1_024),
        ("ConvTranspose2d", 256, 8, 4, 2, 1, 2_097_152), ("BatchNorm2d", 256, 8, 512),
        ("ConvTranspose2d", 128, 16, 4, 2, 1, 524_288), ("BatchNorm2d", 128, 16, 256),
        ("ConvTranspose2d", 64, 32, 4, 2, 1, 131_072), ("BatchNorm2d", 64, 32, 128),
        ("ConvTranspose2d", 3, 64, 4, 2, 1, 3_072),
    ]  # fmt: skip
    assert judged == [
        ("Conv2d", 64, 32, 4, 2, 1, 3_072),
        ("Conv2d", 128, 16, 4, 2, 1, 131_072), ("BatchNorm2d", 128, 16, 256),
        ("Conv2d", 256, 8, 4, 2, 1, 524_288), ("BatchNorm2d", 256, 8, 512),
        ("Conv2d", 512, 4, 4, 2, 1, 2_097_152), ("BatchNorm2d", 512, 4, 1_024),
        ("Conv2d", 1, 1, 4, 1, 0, 8_192),
    ]  # fmt: skip
    assert sum(row[-1] for row in made) == 3_576_704
    assert sum(row[-1] for row in judged) == 2_765_568


@pytest.mark.parametrize("size", [32, 64])
def test_numbers_of_dcgan(size: int) -> None:
    """Slopes, norms' eps and momentum, and what the weights are drawn from."""
    net = DCGAN(image_size=size, width=32)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 2 * {32: 3, 64: 4}[size] - 1
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    assert {layer.negative_slope for layer in net.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}
    kinds = [[type(layer) for layer in player] for player in (net.generator, net.discriminator)]
    assert nn.LeakyReLU not in kinds[0]
    assert nn.ReLU not in kinds[1]
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert layer.bias is None
            weight, count = layer.weight.detach(), layer.weight.numel()
            assert abs(weight.mean()) < 5 * 0.02 / count**0.5
            assert weight.std() == pytest.approx(0.02, rel=5 / (2 * count) ** 0.5)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.detach().mean() == pytest.approx(1, abs=0.02)
            assert 0.01 < layer.weight.std() < 0.03
            assert not layer.bias.any()
    made = net.generator(torch.randn(8, 100))
    assert made.shape == (8, 3, size, size)
    assert made.abs().max() <= 1


def test_switches_of_dcgan() -> None:
    plain = DCGAN(width=4, image_size=32, batch_norm=False, strided=False, generator_activation="leaky_relu")
    kinds = {type(layer) for layer in plain.modules()}
    assert not {nn.BatchNorm2d, nn.ReLU} & kinds
    assert {nn.Upsample, nn.MaxPool2d} <= kinds
    convolutions = [layer for layer in plain.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.stride == (1, 1) and layer.bias is not None for layer in convolutions)
    assert plain(torch.randn(2, 100)).shape == (2,)
    assert nn.LeakyReLU not in {type(each) for each in DCGAN(width=4, discriminator_activation="relu").discriminator}


@pytest.mark.parametrize("size", [4, 28, 48, 100])
def test_picture_sizes_that_the_net_cannot_make(size: int, cli: Callable[..., Said]) -> None:
    with pytest.raises(ValueError, match=f"image_size={size}: the net doubles 4 pixels to 8, 16, 32, 64 and so on"):
        DCGAN(image_size=size)
    said = one_line(cli("train", "model=dcgan32", "data=digits", f"data.image_size={size}"))
    assert said == f"dl-zoo: data.image_size={size}: dcgan32 takes pictures of 32 pixels; leave it out"


def test_layers_of_the_multilayer_form() -> None:
    """Goodfellow et al. 2014, section 5, sizes of the authors' code."""
    net = Multilayer()
    made, judged = table(net.generator, torch.zeros(2, 100)), table(net.discriminator, torch.zeros(2, 1, 28, 28))
    assert made == [("Linear", 1200, 121_200), ("Linear", 1200, 1_441_200), ("Linear", 784, 941_584)]
    assert judged == [("Linear", 1200, 942_000), ("Linear", 1200, 289_200), ("Linear", 1, 241)]
    assert (net.discriminator.input_dropout.p, net.discriminator.dropout.p) == (0.2, 0.5)
    assert net.noise == NOISE == DCGAN(width=1).noise


def test_a_maxout_unit_is_the_largest_of_its_sums() -> None:
    sums = torch.tensor([[1.0, 5.0, -2.0, -4.0, -3.0, -9.0]])
    assert small(pieces=3).discriminator.unit(sums).tolist() == [[5.0, -3.0]]
    assert torch.equal(small(pieces=1).discriminator.unit(sums), F.leaky_relu(sums, 0.2))


def test_outputs_of_the_multilayer_form() -> None:
    z = 10 * torch.randn(50, 3)
    for output, reach in (("sigmoid", 1), ("tanh", 1), ("linear", torch.inf)):
        made = small(output=output).generator(z)
        assert made.abs().max() <= reach
        assert made.min() < made.mean() < made.max()
    with pytest.raises(ValueError, match="5 features are no square pictures of 1 channels"):
        small(features=5, channels=1)
    with pytest.raises(ValueError, match="output='relu' is not one of"):
        small(output="relu")


# ---- the losses --------------------------------------------------------------------------------------------------


def test_losses_are_the_papers() -> None:
    real, fake = torch.randn(2, 50, dtype=torch.float64)
    p, q = real.sigmoid(), fake.sigmoid()
    v = p.log().mean() + (1 - q).log().mean()
    assert torch.isclose(adversarial.value(real, fake), v)
    for loss, generators in (("minimax", (1 - q).log().mean()), ("non_saturating", -q.log().mean())):
        assert torch.isclose(adversarial.discriminator_loss(real, fake, loss), -v)
        assert torch.isclose(adversarial.generator_loss(fake, loss), generators)
    smooth = -(0.9 * p.log() + 0.1 * (1 - p).log()).mean() - (1 - q).log().mean()
    assert torch.isclose(adversarial.discriminator_loss(real, fake, "minimax", 0.1), smooth)
    assert torch.isclose(adversarial.discriminator_loss(real, fake, "wasserstein"), fake.mean() - real.mean())
    assert torch.isclose(adversarial.generator_loss(fake, "wasserstein"), -fake.mean())
    assert adversarial.value(torch.zeros(3), torch.zeros(3)) == pytest.approx(-math.log(4))


def test_gradients_with_respect_to_the_logit() -> None:
    """Minimax -D, non-saturating D - 1: at D = 0.01 one is a hundredth, the other whole."""
    for d in (0.01, 0.5, 0.99):
        for loss, expected in (("minimax", -d), ("non_saturating", d - 1), ("wasserstein", -1.0)):
            logit = torch.tensor([d], dtype=torch.float64).logit().requires_grad_()
            adversarial.generator_loss(logit, loss).backward()
            assert logit.grad is not None
            assert logit.grad.item() == pytest.approx(expected)
    far = torch.tensor([200.0, -200.0], requires_grad=True)  # no overflow where D is sure
    for loss in adversarial.LOSSES:
        whole = adversarial.discriminator_loss(far, far, loss) + adversarial.generator_loss(far, loss)
        assert torch.autograd.grad(whole, far)[0].isfinite().all()


def test_penalties_of_a_discriminator_whose_slope_is_known() -> None:
    slope = torch.tensor([3.0, 4.0], requires_grad=True)

    def steep(x: Tensor) -> Tensor:
        return x @ slope

    real, fake, share = torch.randn(10, 2), torch.randn(10, 2), torch.rand(10)
    assert adversarial.r1(steep, real).item() == pytest.approx(25 / 2)
    assert adversarial.gradient_penalty(steep, real, fake, share).item() == pytest.approx((5 - 1) ** 2, rel=1e-5)
    adversarial.gradient_penalty(steep, real, fake, share).backward()
    torch.testing.assert_close(slope.grad, 2 * (5 - 1) * torch.tensor([0.6, 0.8]))

    def flat(x: Tensor) -> Tensor:  # a dead rectifier: no number may become NaN by its slope of 0
        return torch.relu(x @ slope - 1000)

    slope.grad = None
    (adversarial.gradient_penalty(flat, real, fake, share) + adversarial.r1(flat, real)).backward()
    assert slope.grad is not None
    assert not slope.grad.any()
    seen: list[Tensor] = []

    def square(x: Tensor) -> Tensor:
        seen.append(x)
        return x.square().sum(1)

    adversarial.gradient_penalty(square, real, fake, torch.full((10,), 0.25))
    torch.testing.assert_close(seen[0], 0.25 * real + 0.75 * fake)  # on the way from fake to real


# ---- the steps ---------------------------------------------------------------------------------------------------


def by_hand(net: Any, batches: list[Tensor], seed: int) -> None:
    """Algorithm 1 with the non-saturating loss, one step of each net a batch."""
    of_d, of_g = adam(net.discriminator.parameters()), adam(net.generator.parameters())
    net.train()
    torch.manual_seed(seed)
    for real in batches:
        fake = net.generator(torch.randn(len(real), net.noise)).detach()
        loss = F.softplus(-net.discriminator(real)).mean() + F.softplus(net.discriminator(fake)).mean()
        of_d.zero_grad()
        loss.backward()
        of_d.step()
        loss = F.softplus(-net(torch.randn(len(real), net.noise))).mean()
        of_g.zero_grad()
        loss.backward()
        of_g.step()


@pytest.mark.parametrize("name", ["points", "dcgan"])
def test_steps_equal_a_hand_written_loop_to_the_bit(name: str) -> None:
    torch.manual_seed(0)
    data = Points()
    nets = [small() if name == "points" else DCGAN(1, 8, noise=3, width=4) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    if name == "dcgan":
        data.batches = [batch.new_empty(8, 1, 8, 8).uniform_(-1, 1) for batch in data.batches]
    by_hand(nets[0], data.batches, seed=5)
    task, fitting = GAN(nets[1], adam), trainer()
    torch.manual_seed(5)
    fitting.fit(task, datamodule=data)
    assert_same(nets[0].state_dict(), nets[1].state_dict())
    assert fitting.global_step == len(data.batches)  # and not two a batch


def changes(task: GAN, data: Points, **settings: Any) -> tuple[list[tuple[bool, bool]], pl.Trainer]:
    """Batch by batch: did the discriminator move, did the generator?"""
    moved: list[tuple[bool, bool]] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.before = [p.clone() for p in pl_module.net.parameters()]
            self.of_d = {id(p) for p in pl_module.net.discriminator.parameters()}

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            pairs = list(zip(pl_module.net.parameters(), self.before, strict=True))
            same = [[torch.equal(p, old) for p, old in pairs if (id(p) in self.of_d) == side] for side in (True, False)]
            assert all(p.requires_grad for p in pl_module.net.parameters())  # as before the step
            moved.append((not all(same[0]), not all(same[1])))

    fitting = trainer(callbacks=[Watch()], **settings)
    fitting.fit(task, datamodule=data)
    return moved, fitting


def test_every_so_many_batches_the_generator_has_its_turn() -> None:
    data = Points(7)
    moved, fitting = changes(GAN(small(), adam, loss="wasserstein", critic_steps=3), data)
    assert moved == [(True, False), (True, False), (True, True)] * 2 + [(True, False)]
    assert fitting.global_step == 7
    moved, fitting = changes(GAN(small(), adam), data, max_steps=5)
    assert moved == [(True, True)] * 5
    assert fitting.global_step == 5


def test_schedules_count_the_steps_of_their_own_net() -> None:
    def halving(optimizer: Any, total_steps: int) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total_steps)

    task = GAN(small(), adam, scheduler=halving, critic_steps=2)
    _, fitting = changes(task, Points(8), max_epochs=1)
    assert [each.param_groups[0]["lr"] for each in fitting.optimizers] == [0, 0]
    assert [each.scheduler.last_epoch for each in fitting.lr_scheduler_configs] == [8, 4]


def test_penalties_pull_at_both_nets_and_each_step_at_its_own() -> None:
    pulled = [small(), small()]
    pulled[1].load_state_dict(pulled[0].state_dict())
    tasks = [
        GAN(net, partial(torch.optim.SGD, lr=0.1), penalties=each)
        for net, each in zip(pulled, ({}, {"l2": l2}), strict=True)
    ]
    for task in tasks:
        torch.manual_seed(0)
        trainer(max_steps=1).fit(task, datamodule=Points())
    differing = {
        n
        for (n, a), b in zip(pulled[0].named_parameters(), pulled[1].parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert differing == {name for name, _ in pulled[0].named_parameters()}
    assert "train/l2" in tasks[1].trainer.callback_metrics


def l2(net: nn.Module) -> Tensor:
    return sum((p.square().sum() for p in net.parameters()), torch.tensor(0.0))


def test_evaluation_asks_the_same_questions_each_time_and_moves_nothing() -> None:
    task, data, testing = GAN(DCGAN(1, 8, noise=3, width=4), adam), Points(), trainer()
    data.batches = [torch.rand(8, 1, 8, 8) for _ in range(2)]
    before = {key: value.clone() for key, value in task.net.state_dict().items()}
    asked = []
    for _ in range(2):
        testing.test(task, datamodule=data, verbose=False)
        asked.append(dict(testing.callback_metrics))
    assert asked[0] == asked[1]
    assert_same(before, dict(task.net.state_dict()))
    assert set(asked[0]) == {f"test/{name}" for name in ("loss", "d_loss", "g_loss", "d_real", "d_fake", "value")}
    assert asked[0]["test/value"] == -asked[0]["test/d_loss"]


def test_noise_and_what_is_made_of_it() -> None:
    task = GAN(DCGAN(1, 8, noise=3, width=4), adam, mean=[0.1], std=[0.3]).train()
    noise = task.noise(5, torch.Generator().manual_seed(0))
    assert torch.equal(noise, task.noise(5, torch.Generator().manual_seed(0)))
    made = task.generate(noise)
    assert (made.shape, made.requires_grad, task.net.training) == ((5, 1, 8, 8), False, True)
    assert 0 <= made.min() <= made.max() <= 1
    torch.testing.assert_close(made, (task.net.eval().generator(noise).detach() + 1) / 2)
    pictures = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(task.seen((pictures - 0.1) / 0.3), 2 * pictures - 1)
    points = GAN(small(), adam, mean=0.0)  # type: ignore[arg-type]
    assert torch.equal(points.seen(noise), noise)
    assert points.generate(noise).shape == (5, 2)
    with pytest.raises(UserError, match="of no class"):
        points.generate(noise, torch.zeros(5, dtype=torch.int64))


def test_a_run_is_neither_exported_nor_asked_for_classes(cli: Callable[..., Said]) -> None:
    played("trainer.max_epochs=0", "run_dir=run")
    Path("1.png").touch()
    said = one_line(cli("export", "run", "--format", "safetensors"))
    assert said == "dl-zoo: run: two nets that play are not exported; dl_zoo.load_run gives them, as net.generator"
    assert "predict knows only classifiers" in one_line(cli("predict", "run", "1.png"))


def test_it_learns_a_gaussian() -> None:
    """Numbers about 3, where the generator's are about 0 at first; R1 lets the game come to rest."""
    torch.manual_seed(0)
    data = Points(40, 64)
    data.batches = [0.5 * batch[:, :1] + 3 for batch in data.batches]
    task = GAN(small(features=1, width=32, units=32), partial(Adam, lr=1e-3, betas=(0.5, 0.9)), r1=1.0)
    noise = task.noise(2000, torch.Generator().manual_seed(1))
    assert task.generate(noise).mean() < 1
    trainer(max_epochs=10).fit(task, datamodule=data)
    made = task.generate(noise)
    assert made.mean() == pytest.approx(3, abs=0.4)
    assert made.std() == pytest.approx(0.5, abs=0.2)
    for name, at_end in {"d_real": 0.5, "d_fake": 0.5, "value": -math.log(4)}.items():
        assert task.trainer.callback_metrics[f"train/{name}"] == pytest.approx(at_end, abs=0.05), name


# ---- runs --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nobody catches it."""


def test_a_broken_run_goes_on_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["task.critic_steps=2", "task.r1=0.1", "scheduler=cosine", "regularizer=ema", "logger=tensorboard"]
    whole = played(*settings, "run_dir=whole")
    assert whole.status == "finished"
    settle = GAN.settle

    def die(self: GAN) -> None:
        settle(self)
        if self.trainer.training and self.trainer.global_step == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(GAN, "settle", die)
        with pytest.raises(Killed):
            played(*settings, "run_dir=broken", "checkpoint_every=0")
    assert checkpoints.read(Path("broken/checkpoints/last.ckpt"))["global_step"] == 4
    assert played(*settings, "run_dir=broken", "resume=auto").status == "finished"
    assert_same_run(whole.folder, Path("broken"))
    metrics = json.loads(Path("whole/metrics.json").read_text())
    assert metrics["step"] == 18
    assert not any(name.startswith("val/") for name in metrics)
    best, last = (checkpoints.read(Path(f"whole/checkpoints/{name}.ckpt"))["global_step"] for name in ("best", "last"))
    assert best == last == 18


def test_a_saturated_discriminator_ends_the_run_by_name() -> None:
    """With a generator that cannot move the discriminator is soon right about everything."""
    words = ["optimizer.lr_factors={generator:0}", "optimizer.lr=1e-2", "trainer.max_epochs=10", "model.dropout=0"]
    words += ["model.input_dropout=0", "model.units=64"]
    result = played(*words, "task.patience=12", "run_dir=run")
    assert result.status == "diverged"
    assert re.search("the discriminator has been saturated for 1[2-5] steps, so nothing is learned", result.reason)
    assert "the last good checkpoint is run/checkpoints/last.ckpt; try task.r1=10" in result.reason
    assert checkpoints.read(Path("run/checkpoints/last.ckpt"))["task"]["saturated"] > 0
    assert played(*words, "task.patience=0").status == "finished"


def test_a_loss_that_is_not_a_number_ends_the_run_by_name() -> None:
    result = played("optimizer.lr=1e30", "run_dir=run")
    assert result.status == "diverged"
    assert "the loss is not finite at step" in result.reason
    assert result.reason.endswith("try a lower optimizer.lr")


def test_other_precisions_and_watchers_go_along(cli: Callable[..., Said]) -> None:
    words = ["trainer.precision=bf16-mixed", "diagnostics=true", "regularizer=[l2,max_norm,gradient_noise]"]
    words += ["task.loss=wasserstein", "logger=tensorboard", "trainer.max_epochs=1"]
    result = played(*words, "run_dir=run")
    assert result.status == "finished"
    assert result.metrics["step"] == 9
    said = cli("check", *TINY, *words)
    assert said.code == 0
    assert "generator.layers.0" in said.out
    tags = curves(Path("run"))
    for name in ("gradients/generator.last", "gradients/discriminator.last", "updates/generator.last"):
        assert all(value > 0 for _, value in tags[name]), name


def test_a_net_that_makes_other_items_than_the_datas() -> None:
    task = GAN(small(features=3), adam)
    with pytest.raises(UserError, match="this net makes items of 3, and the data's are 2"):
        trainer().fit(task, datamodule=Points())


def test_what_has_no_sense_for_two_nets_is_refused(cli: Callable[..., Said]) -> None:
    said = one_line(cli("find-lr", *TINY))
    assert said == "dl-zoo: find-lr: two nets that play against each other have no loss whose fall tells a rate"
    for word, answer in {
        "task.loss=bce": "task.loss=bce: must be one of minimax, non_saturating, wasserstein",
        "task.critic_steps=0": "task.critic_steps=0: must be a whole number of at least 1",
        "task.r1=-1": "task.r1=-1: must be at least 0",
        "task.label_smoothing=0.7": "task.label_smoothing=0.7: must be at least 0 and below 0.5",
        "trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches: task=gan steps two nets in turns at "
        "each batch; raise data.batch_size",
        "regularizer=clip_norm": "regularizer=clip_norm does not go with task=gan: it clips no gradients; task.r1 or "
        "task.gradient_penalty bound slopes",
        "trainer.strategy=ddp": "trainer.strategy=ddp: a step of task=gan moves one net of two; "
        "ddp_find_unused_parameters_true",
        "optimizer=lbfgs": "optimizer=lbfgs: task=gan asks for a new loss at each step; optimizer=adam",
    }.items():
        words = [each for each in TINY if not each.startswith("optimizer")]
        lines = cli("train", *words, word).err.splitlines()
        assert f"dl-zoo: {answer}" in lines


def points(count: int, deviation: float = 1.0) -> Gaussian:
    data = Gaussian({"features": None}, mean=2.0, deviation=deviation, train_items=count, eval_items=count)
    data.setup()
    return data


@pytest.mark.parametrize(("loss", "expected"), [("minimax", (0.01, 0.02)), ("non_saturating", (0.99, 1.98))])
def test_probe_saturation(loss: str, expected: tuple[float, float]) -> None:
    task = GAN(small(features=1), adam, loss=loss).eval()  # as a run's probes find it: the same noise each time
    before = {key: value.clone() for key, value in task.net.state_dict().items()}
    found = saturation(task, points(500))
    assert found["saturation/logit"] == pytest.approx(expected[0], abs=1e-6)
    assert found["saturation/kept"] == pytest.approx(expected[1], rel=1e-4)
    assert_same(before, dict(task.net.state_dict()))
    with pytest.raises(UserError, match="must be between 0 and 1"):
        saturation(task, points(500), d=1.0)
    with pytest.raises(UserError, match="this task has none"):
        saturation(SimpleNamespace(), points(500))


def test_probe_moments() -> None:
    data = points(4000, deviation=0.5)
    task = SimpleNamespace(
        noise=lambda n, generator: torch.randn(n, 1, generator=generator), generate=lambda z: z + 2.5
    )
    found = moments(task, data)
    assert found["moments/mean"] == pytest.approx(1, abs=0.1)
    assert found["moments/spread"] == pytest.approx(math.log(2), abs=0.1)
    with pytest.raises(UserError, match="makes nothing up"):
        moments(SimpleNamespace(), data)


@pytest.mark.slow
def test_two_ranks_play_the_game_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [*TINY, "model.dropout=0", "model.input_dropout=0", "trainer.limit_train_batches=6", "task.r1=0.1"]
    settings += ["trainer.max_epochs=1", "data.batch_size=100"]
    setup = GAN.setup

    def seeded(self: GAN, stage: str) -> None:  # as Lightning does once more where there are several processes
        pl.seed_everything(0, workers=True, verbose=False)
        setup(self, stage)

    monkeypatch.setattr(GAN, "setup", seeded)
    alone = run(compose([*settings, "run_dir=alone"]), quiet=True)
    command = [sys.executable, "-m", "dl_zoo", "train", *settings, "trainer.devices=2", "run_dir=two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def started(*words: str) -> Any:
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, timeout=200, check=False, env=environment
        )

    said = started("trainer.strategy=ddp_find_unused_parameters_true")
    assert said.returncode == 0, said.stderr
    a, b = (checkpoints.read(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("alone", "two"))
    assert a["global_step"] == b["global_step"] == 6
    for key, value in a["state_dict"].items():
        torch.testing.assert_close(value, b["state_dict"][key], rtol=1e-4, atol=1e-5)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["train/value"] == pytest.approx(alone.metrics["train/value"], abs=1e-4)
