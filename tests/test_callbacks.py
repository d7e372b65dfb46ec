"""What a run shows: the event file read back, every picture decoded, the bar and the lines."""

import io
import logging
import re
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dl_zoo.callbacks import pictures
from dl_zoo.callbacks.pictures import Pass, Pictures, first_filters
from dl_zoo.callbacks.progress import ConsoleHandler, Progress, duration
from dl_zoo.callbacks.tensorboard import TensorBoard, log_hyperparameters

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
    figure = pictures.samples_figure(seen.kept, seen.counts(), ["no", "yes"], "val", None)
    assert figure.get_suptitle() == title
    (axes,) = figure.axes
    captions = [text.get_text() for text in axes.texts]
    assert captions[0] == ("yes\n0.600" if all(right) else "no → yes\n0.600" if any(right) else "no → yes\n0.900")
    assert pictures.render(figure).std() > 5


def test_many_classes_make_a_plain_heat_map():
    counts = torch.eye(40, dtype=torch.long)
    figure = pictures.confusion_figure(counts, [str(k) for k in range(40)], "test")
    assert not figure.axes[0].texts
    assert pictures.render(figure).shape == (800, 800, 3)


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
