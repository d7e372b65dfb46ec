"""What a run shows: the event file read back, every picture decoded, the bar and the lines."""

import io
import logging
import re
import time
import warnings

import numpy as np
import pytest
import torch
from conftest import SMALL, assert_same
from PIL import Image
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dl_zoo import checkpoints
from dl_zoo.callbacks import figures
from dl_zoo.callbacks.diagnostics import Recording
from dl_zoo.callbacks.maps import first_filters, grad_cam, look
from dl_zoo.callbacks.pictures import Pass, Pictures
from dl_zoo.callbacks.progress import ConsoleHandler, Progress, duration
from dl_zoo.callbacks.tensorboard import TensorBoard, log_hyperparameters
from dl_zoo.compose import compose
from dl_zoo.run import run as run_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning 2.6.6 on torch 2.14
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Tiny(LightningModule):
    def __init__(self, net: nn.Module | None = None):
        super().__init__()
        self.net = net or nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
        self.loss = torch.tensor(0.0)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.loss = loss.detach()
        return loss

    def evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        logits = self.net(batch[0]).detach()
        self.log(f"{split}/acc", (logits.argmax(1) == batch[1]).float().mean())
        return {"output": logits, "targets": batch[1]}

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Tensor]:
        return self.evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Tensor]:
        return self.evaluate("test", batch)

    def progress(self) -> dict[str, float]:
        return {"loss": float(self.loss), "acc": 0.964}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Noise(LightningDataModule):
    classes = ("$cat", "dog", "a class with a very long name")
    normalisation = {"mean": [0.5], "std": [0.5]}  # noqa: RUF012

    def loader(self, seed: int = 0) -> DataLoader:
        torch.manual_seed(seed)
        return DataLoader(TensorDataset(torch.rand(48, 1, 8, 8) * 2 - 1, torch.randint(0, 3, (48,))), batch_size=8)

    train_dataloader = val_dataloader = test_dataloader = loader


def trainer(*callbacks, logger=False, epochs=2, **arguments) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        **arguments,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One whole run: fit, test, hyper-parameters. Its folder and what its events say."""
    folder = tmp_path_factory.mktemp("run$HOME")  # Lightning's logger would expand it
    logger = TensorBoard(folder)
    fit = trainer(Pictures(), logger=logger)
    task, data = Tiny(), Noise()
    with warnings.catch_warnings():  # a fixture is outside the marks above
        warnings.filterwarnings("ignore", ".*LeafSpec|.*does not have many workers")
        fit.fit(task, data)
        metrics = fit.test(task, data, verbose=False)[0]
    settings = {
        "seed": 0,
        "fast": True,
        "data": {"data_dir": "/here", "dims": {"features": 64}},
        "model": {"_target_": "zoo.Tiny", "_partial_": True, "sizes": [4, 3], "x": None},
    }
    log_hyperparameters(logger.experiment, settings, metrics | {"test/extra": 0.25})
    logger.experiment.close()
    return folder, EventAccumulator(str(folder), size_guidance={"images": 0}).Reload(), metrics


def test_one_event_file_and_nothing_else(run):
    folder, *_ = run
    (file,) = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.")


def test_pictures_are_in_the_event_file(run):
    _, events, _ = run
    steps = {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}
    once = ("confusion/val", "confusion/test", "samples/val_mistakes", "samples/test_mistakes")
    once += ("activations/0", "samples/test_gradcam")
    assert steps == {"filters/0": [0, 6, 12]} | {tag: [12] for tag in once}
    for tag in steps:
        for image in events.Images(tag):
            picture = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
            assert picture.ndim == 3
            assert all(50 < side < 1600 for side in picture.shape[:2])
            assert picture.std() > 5


def test_hparams_hold_settings_and_metrics(run):
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

    _, events, metrics = run
    content = events.PluginTagToContent("hparams")
    found = parse_session_start_info_plugin_data(content[SESSION_START_INFO_TAG]).hparams
    values = {name: value.string_value or value.number_value for name, value in found.items()}
    assert values == {"seed": 0, "fast": "true", "model": "Tiny", "model.sizes": "[4, 3]"}
    (accuracy,) = events.Scalars("test/acc")  # Lightning's own, not a second one
    assert accuracy.value == pytest.approx(metrics["test/acc"])
    (extra,) = events.Scalars("test/extra")
    assert (extra.step, extra.value) == (accuracy.step, 0.25)


def test_hparams_of_different_nets_share_one_table(tmp_path):
    """Asked of TensorBoard's own backend: all columns of all runs, each with its values."""
    for name in ("a", "b"):
        writer = TensorBoard(tmp_path / name).experiment
        log_hyperparameters(writer, {"lr": 0.5, f"only_{name}": 1}, {"test/acc": 0.75})
        writer.close()
    assert hparams_table(tmp_path) == [
        {"lr": 0.5, "only_a": 1, "test/acc": 0.75},
        {"lr": 0.5, "only_b": 1, "test/acc": 0.75},
    ]


def hparams_table(folder):
    from tensorboard import context
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    events = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(folder))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider, logdir=str(folder)))
    request = api_pb2.ListSessionGroupsRequest(allowed_statuses=[api_pb2.STATUS_SUCCESS], slice_size=10)
    groups = list_session_groups.Handler(context.RequestContext(), backend, "", request).run().session_groups
    return [
        {name: value.number_value for name, value in group.hparams.items()}
        | {value.name.tag: value.value for value in group.metric_values}
        for group in sorted(groups, key=lambda group: group.name)
    ]


def test_a_resumed_run_hides_what_it_repeats(tmp_path):
    for start, value in ((None, 1.0), (2, 2.0)):
        time.sleep(1 if start else 0)  # the names of event files tell seconds apart
        writer = TensorBoard(tmp_path, purge_step=start).experiment
        for step in range(start or 0, 4):
            writer.add_scalar("train/loss", value, step)
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(0, 1), (1, 1), (2, 2), (3, 2)]


def as_pass(confidences: list[float], right: list[bool], size: int = 2) -> Pass:
    """Two classes; the answer is always 1. The picture's first pixel is the sample's number."""
    p = torch.tensor(confidences)
    inputs = torch.arange(len(p)).float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    outputs = {"output": torch.stack([1 - p, p], 1).log(), "targets": torch.tensor(right).long()}
    seen = Pass()
    for rows in torch.arange(len(p)).split(size):
        seen.add({name: value[rows] for name, value in outputs.items()}, (inputs[rows], None))
    return seen


def test_mistakes_come_most_confident_first():
    seen = as_pass([0.6, 0.9, 0.7, 0.8, 0.95], [False, False, True, False, True])
    assert [int(picture[0, 0, 0]) for picture in seen.kept[-1]] == [1, 3, 0, 2, 4]  # then the unsure right ones
    assert seen.counts().tolist() == [[0, 3], [0, 2]]
    confidences = torch.linspace(0.6, 0.99, 60)[torch.randperm(60)].tolist()
    kept = as_pass(confidences, [False] * 60, size=7).kept
    assert kept[1].tolist() == pytest.approx(sorted(confidences)[:-26:-1])


@pytest.mark.parametrize(
    ("right", "title"),
    [
        ([True] * 3, "val: no mistake; the 3 least confident right answers, with their probability"),
        ([True, True, False], "val: the only mistake: true → predicted, probability"),
        ([False] * 30, "val: the 25 most confident of 30 mistakes: true → predicted, probability"),
    ],
)
def test_samples_say_what_they_show(right, title):
    seen = as_pass(torch.linspace(0.9, 0.6, len(right)).tolist(), right)
    pixels = figures.denormalised(seen.kept[-1], None)
    figure = figures.samples_figure(seen.kept, seen.counts(), ["no", "yes"], "val", pixels)
    assert figure.get_suptitle() == title
    (axes,) = figure.axes
    captions = [text.get_text() for text in axes.texts]
    assert captions[0] == ("yes\n0.600" if all(right) else "no → yes\n0.600" if any(right) else "no → yes\n0.900")
    assert figures.render(figure).std() > 5


def test_many_classes_make_a_plain_heat_map():
    counts = torch.eye(40, dtype=torch.long)
    figure = figures.confusion_figure(counts, [str(k) for k in range(40)], "test")
    assert not figure.axes[0].texts
    assert figures.render(figure).shape == (800, 800, 3)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 100)), ("1", (64, 3, 8, 8))),
        (nn.Sequential(nn.Linear(64, 10)), None),  # not of all pixels
        (nn.Sequential(nn.Conv2d(2, 6, (5, 3))), ("0", (12, 1, 5, 3))),
        (nn.Sequential(nn.Conv2d(3, 6, 1)), None),
        (nn.LSTM(8, 8), None),
    ],
)
def test_first_filters(net, expected):
    found = first_filters(net, torch.Size((5, 3, 8, 8)))
    assert (found and (found[0], tuple(found[1].shape))) == expected


def test_other_shapes_are_passed_over(tmp_path):
    seen = Pass()
    tokens = (torch.zeros(2, 5, dtype=torch.long), None)
    seen.add(
        {"output": torch.rand(2, 5, 9), "targets": torch.zeros(2, 5, dtype=torch.long)}, tokens
    )  # a language model
    seen.add({"output": torch.rand(2, 4), "targets": torch.rand(2, 4)}, tokens)  # a regression
    seen.add(None, tokens)
    assert not seen.targets
    seen.add({"output": torch.rand(2, 4), "targets": torch.tensor([3, -100])}, tokens)  # text classification
    assert not seen.kept
    assert seen.counts().sum() == 1


class Residual(nn.Module):
    """Branches, a rectifier in place, a shortcut, a convolution that is not called, and a random one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 3, 3)
        self.block = Shortcut()
        self.head = nn.Linear(4, 5)
        self.noise = nn.Dropout2d(0.5)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        x = self.noise(self.block(x))
        return self.head(x.mean((2, 3)))


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    def forward(self, x):
        return x + self.inner(x)


def residual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net, x = Residual(), torch.randn(6, 3, 12, 12)
    net(x)  # the norm's running statistics
    return net, x


def test_a_look_finds_the_convolutions_and_the_last_map():
    net, x = residual()
    seen = look(net, x[:1])
    assert [(name, tuple(maps.shape)) for name, maps in seen.convolutions] == [
        ("first", (4, 10, 10)),
        ("block.inner.0", (4, 5, 5)),
    ]
    assert seen.last is net.noise  # dropout keeps the size, and does nothing in evaluation
    torch.testing.assert_close(seen.convolutions[0][1], net.first(x[:1])[0])
    assert (seen.convolutions[1][1] < 0).any(), "as it was before the rectifier worked in place"


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("inference", [False, True])
def test_grad_cam_is_its_equation(frozen, inference):
    net, x = residual()
    net.requires_grad_(not frozen)
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.inference_mode(inference):
        heat = grad_cam(net, x.clone(), classes.clone(), look(net, x[:1].clone()))
    net.eval().requires_grad_(True)
    for i in range(6):
        maps = net.block(nn.functional.max_pool2d(torch.relu(net.first(x[i : i + 1])), 2))
        (slope,) = torch.autograd.grad(net.head(maps.mean((2, 3)))[0, classes[i]], maps)
        alpha = slope[0].mean((1, 2))
        raw = sum(a * m for a, m in zip(alpha, maps[0].detach(), strict=True)).clamp(min=0)
        torch.testing.assert_close(heat[i], raw / raw.max().clamp(min=1e-12))
    assert heat.amax((1, 2)).max() == 1


def test_heat_is_where_the_evidence_is():
    """A net that answers by how much there is on a picture: the heat lies on the dot."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False))
    nn.init.constant_(net[0].weight, 1.0)
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 64))
    x = torch.zeros(2, 1, 8, 8)
    x[:, :, 2, 5] = 1
    heat = grad_cam(net, x, torch.tensor([0, 1]), look(net, x[:1]))
    assert (heat[0].nonzero().amin(0).tolist(), heat[0].nonzero().amax(0).tolist()) == ([1, 4], [3, 6])
    assert not heat[1].any(), "nothing speaks for the other class"


def test_looking_leaves_no_trace():
    net, x = residual()
    net.block.eval()
    net.first.weight.requires_grad_(False)
    net.head.weight.grad = torch.ones(5, 4)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes, random = [m.training for m in net.modules()], torch.get_rng_state()
    grad_cam(net, x, torch.zeros(6, dtype=torch.long), look(net, x[:1]))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert [p.grad is not None for p in net.parameters()] == [
        name == "head.weight" for name, _ in net.named_parameters()
    ]
    assert torch.equal(net.head.weight.grad, torch.ones(5, 4))
    assert [p.requires_grad for p in net.parameters()] == [name != "first.weight" for name, _ in net.named_parameters()]
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        nn.Sequential(nn.Conv2d(1, 5, 8), nn.Flatten(), nn.Linear(5, 3)),
        nn.Conv2d(1, 3, 8),
    ],
    ids=["no convolution", "a map of one place", "the net itself"],
)
def test_nets_without_maps_are_passed_over(net):
    assert look(net, torch.zeros(1, 1, 8, 8)) is None


def test_dead_units_are_seen_in_a_net_with_auxiliary_classifiers():
    class Branched(nn.Sequential):
        def with_auxiliary(self, x):
            low = torch.relu(self[0](x))
            return self[1](low), (self[2](low),)

    net = Branched(nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3))
    nn.init.constant_(net[0].bias, -9.0)
    recording = Recording(net)
    net.with_auxiliary(torch.rand(5, 4))
    recording.stop()
    assert recording.numbers["activations/0/dead"] == 1
    assert {f"activations/{layer}/mean" for layer in range(3)} <= set(recording.numbers)
    assert "with_auxiliary" not in vars(net)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_device_sees_the_same_heat():
    net, x = residual()
    classes = torch.arange(6) % 5
    here = grad_cam(net, x, classes, look(net, x[:1]))
    net, x, random = net.cuda(), x.cuda(), torch.cuda.get_rng_state()
    with torch.inference_mode():
        there = grad_cam(net, x, classes.cuda(), look(net, x[:1]))
    torch.testing.assert_close(here, there, atol=1e-3, rtol=1e-3)
    assert torch.equal(torch.cuda.get_rng_state(), random)


def test_a_run_with_pictures_equals_one_without_to_the_bit():
    """Dropout draws at random in training; what is drawn at the end looks into the net that was tested."""
    words = [*SMALL, "model.dropout=0.3", "regularizer=shift", "trainer.max_epochs=1", "trainer.limit_train_batches=3"]
    one, other = (run_of(compose([*words, f"pictures={on}", f"run_dir=pictures_{on}"])) for on in ("true", "false"))
    assert one.metrics == other.metrics
    with_pictures, without = (checkpoints.read(r.folder / "checkpoints" / "last.ckpt") for r in (one, other))
    del with_pictures["dl_zoo"]["config"], without["dl_zoo"]["config"]
    assert_same(with_pictures, without)
    tags = EventAccumulator(str(one.folder)).Reload().Tags()["images"]
    assert {"activations/c1", "activations/c3", "samples/test_gradcam"} <= set(tags)


def test_outputs_that_are_no_scores_have_no_heat():
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return (self.conv(x) > 0).float().sum((2, 3))

    net, x = Deaf(), torch.randn(3, 1, 8, 8)
    seen = look(net, x[:1])
    assert grad_cam(net, x, torch.zeros(3, dtype=torch.long), seen) is None  # a step has no slope
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    assert grad_cam(net, x, torch.tensor([0, 1, 2]), look(net, x[:1])) is None  # an embedding


@pytest.mark.parametrize(
    ("net", "inside"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), []),
        (Tiny().net.requires_grad_(False), ["activations/0", "samples/test_gradcam"]),
    ],
    ids=["no convolution", "frozen"],
)
def test_other_nets_are_tested_without_an_error(tmp_path, net, inside):
    logger, task, data = TensorBoard(tmp_path), Tiny(net), Noise()
    fit = trainer(Pictures(), logger=logger, epochs=1)
    fit.test(task, data, verbose=False)
    logger.experiment.close()
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["images"]
    assert sorted(tags) == sorted(["confusion/test", "samples/test_mistakes", *inside])


def test_of_several_views_the_first_is_kept():
    views = torch.arange(30.0).reshape(30, 1, 1, 1).expand(30, 1, 2, 2)  # 10 views of 3 pictures
    seen = Pass()
    seen.add({"output": torch.eye(3).log(), "targets": torch.tensor([1, 1, 1])}, (views, None))
    assert sorted(seen.kept[-1][:, 0, 0, 0].tolist()) == [0, 10, 20]
    assert seen.first.flatten().tolist() == [0, 0, 0, 0]


def test_too_many_classes_for_a_matrix_are_a_list_of_mix_ups():
    counts = torch.eye(1000, dtype=torch.long) * 9
    counts[3, 7], counts[9, 2], counts[500, 999] = 4, 8, 6
    figure = figures.mixups_figure(counts, [f"${k}" for k in range(1000)], "test")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["$9 → $2", "$500 → $999", "$3 → $7"]
    assert [bar.get_width() for bar in axes.patches] == [8, 6, 4]
    assert "99.8% right (9,000 of 9,018)" in figure.get_suptitle()
    assert figures.render(figure).std() > 5


@pytest.mark.parametrize(("maps", "title"), [(6, "c: 6 maps of 4x5"), (64, "c: 64 maps of 4x5, the first 15")])
@pytest.mark.parametrize("channels", [1, 3])
def test_activations_say_what_they_show(maps, title, channels):
    figure = figures.activations_figure(torch.rand(maps, 4, 5), torch.rand(channels, 8, 8), "c")
    assert figure.get_suptitle() == title
    assert len(figure.axes[0].images) == 1 + min(maps, 15)
    assert figures.render(figure).std() > 5


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_glows_over_the_picture(channels):
    heat = torch.zeros(2, 4, 4)
    heat[0, :2] = 1
    shown = figures.heated(torch.full((2, channels, 32, 32), 0.5), heat)
    assert shown.shape == (2, 3, 96, 96)
    assert shown[0, :, :30].mean() > shown[0, :, 66:].mean() + 0.2
    assert shown[1].std() < 0.05


def test_pictures_need_no_logger():
    fit = trainer(Pictures(), epochs=1)
    task, data = Tiny(), Noise()
    fit.fit(task, data)
    fit.test(task, data, verbose=False)


def test_pictures_go_to_every_logger_that_takes_them(tmp_path):
    loggers = [TensorBoard(tmp_path / name) for name in "ab"]
    data = Noise()
    trainer(Pictures(), logger=loggers, epochs=1).fit(Tiny(), data.loader(), data.loader())  # and without a data module
    for logger in loggers:
        logger.experiment.close()
        tags = EventAccumulator(logger.log_dir).Reload().Tags()["images"]
        assert tags == ["filters/0", "confusion/val", "samples/val_mistakes"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dl_zoo"]


def test_without_a_terminal_one_line_an_epoch(caplog, capsys):
    caplog.set_level(logging.INFO, "dl_zoo")
    trainer(Progress(), epochs=3).fit(Tiny(), Noise())
    assert len(lines(caplog)) == 3
    seconds = r"[\d.e-]+ s"
    for epoch, line in enumerate(lines(caplog)[:2], start=1):
        assert re.fullmatch(rf"epoch {epoch}/3  loss \d\.\d{{3}}  acc 0\.964  {seconds}, about \d+ s left", line)
    assert re.fullmatch(rf"epoch 3/3  loss \d\.\d{{3}}  acc 0\.964  {seconds}", lines(caplog)[2])
    assert "%" not in capsys.readouterr().err


def test_on_a_terminal_one_bar_over_all_epochs(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "dl_zoo")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setattr("dl_zoo.callbacks.progress.REFRESH", 0.0)
    handler = ConsoleHandler()
    logging.getLogger("dl_zoo").addHandler(handler)
    try:
        fit = trainer(Progress(), epochs=3)
        task, data = Tiny(), Noise()
        fit.fit(task, data)
        logging.getLogger("dl_zoo").info("trained")
        fit.test(task, data, verbose=False)
    finally:
        logging.getLogger("dl_zoo").removeHandler(handler)
    shown = terminal.getvalue()
    for part in ("epoch 1/3", "epoch 3/3 100%", "| 7/18, ", "acc 0.964", "test 100%", "trained\n"):
        assert part in shown
    assert re.search(r"\| 9/18, \d\d:\d\d \+ \d\d:\d\d left, loss", shown)
    assert len(lines(caplog)) == 4  # the log has the epochs' lines, the terminal has the bar
    assert "epoch 2/3  loss" not in shown


def test_bar_shows_the_time_only_where_the_end_is_known(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    endless = iter(lambda: (torch.rand(8, 1, 8, 8), torch.randint(0, 3, (8,))), None)
    validation = Noise().loader()
    trainer(Progress(), epochs=-1, max_steps=5).fit(Tiny(), endless, validation)  # 5 steps are known
    assert "5/5" in terminal.getvalue()

    class Stop(Progress):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = trainer.global_step == 4
            super().on_train_batch_end(trainer, *args)

    trainer(Stop(), epochs=-1).fit(Tiny(), endless, validation)
    assert "epoch 1 4 batches, " in terminal.getvalue()


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")  # the loader is no subject here
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_bar_resumes_where_the_run_broke_off(tmp_path, monkeypatch):
    class Break(Progress):
        def on_train_batch_end(self, trainer, *args):
            super().on_train_batch_end(trainer, *args)
            if trainer.global_step == 8:
                trainer.save_checkpoint(tmp_path / "last.ckpt")
                raise RuntimeError("power cut")

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    broken = Break()
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(broken).fit(Tiny(), Noise())
    assert broken.bar is None
    terminal.truncate(0)
    trainer(Progress()).fit(Tiny(), Noise(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    first = terminal.getvalue().lstrip("\0\r").partition("\r")[0]
    assert first.startswith("epoch 2/2  67%")
    assert "| 8/12, " in first
    assert "12/12" in terminal.getvalue()


def test_a_step_costs_the_bar_microseconds(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    progress, fit = Progress(), trainer()
    fit.fit_loop.max_batches = 1000
    progress.setup(fit, None, "fit")
    progress.on_train_start(fit, None)
    progress.show(fit, nn.Identity())
    start = time.perf_counter()
    for step in range(10_000):
        progress.on_train_batch_end(fit, None, None, None, step)
    seconds = time.perf_counter() - start
    progress.close()
    assert seconds / 10_000 < 20e-6  # 0.2 on an idle core; the rest is for a busy one


def test_duration():
    assert duration(3599.7) == "1 h 00 min"
