"""`export`: files that other programs load, that compute what the net does, and that say how they are to be used."""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Said, one_line, trained
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from dl_zoo import checkpoints, create_model, export, options, pretrained
from dl_zoo.errors import UserError
from dl_zoo.run import Result
from dl_zoo.trained import load
from dl_zoo.zoo import load_run

# What somebody without torch and without this package writes; it is given the file and the inputs.
STRANGER = """
import json, sys
import numpy as np
import onnxruntime

file, inputs = sys.argv[1:]
about = json.load(open(file + ".json"))
session = onnxruntime.InferenceSession(file)
logits = session.run([about["output"]["name"]], {about["input"]["name"]: np.load(inputs)})[0]
np.save("logits.npy", logits)
print(*(about["classes"][k] for k in logits.argmax(1)))
assert not {"torch", "dl_zoo"} & set(sys.modules)
"""


def test_an_onnx_file_is_used_in_a_process_without_torch(finished: Result, cli: Callable[..., Said]) -> None:
    said = cli("export", str(finished.folder), "--format", "onnx", "--output", "net.onnx")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0] == "written      net.onnx, net.onnx.json"
    assert {path.name for path in Path().iterdir()} == {"net.onnx", "net.onnx.json"}

    net = load_run(finished.folder).net.eval()
    for batch in (1, 5):
        inputs = torch.randn(batch, 1, 32, 32)
        np.save("inputs.npy", inputs.numpy())
        process = [sys.executable, "-I", "-c", STRANGER, "net.onnx", "inputs.npy"]
        answered = subprocess.run(process, capture_output=True, text=True, check=True).stdout.split()
        with torch.no_grad():
            expected = net(inputs)
        torch.testing.assert_close(torch.from_numpy(np.load("logits.npy")), expected, rtol=1e-4, atol=1e-4)
        assert answered == [str(k) for k in expected.argmax(1).tolist()]


def test_the_json_tells_what_the_file_does_not(finished: Result, cli: Callable[..., Said]) -> None:
    said = cli("export", str(finished.folder), "--format", "safetensors", "--output", "net.safetensors")
    about = json.loads(Path("net.safetensors.json").read_text())
    assert about["sha256"] == hashlib.sha256(Path("net.safetensors").read_bytes()).hexdigest()
    assert about["input"]["shape"] == ["batch", 1, 32, 32]
    assert about["output"]["shape"] == ["batch", 10]
    assert about["classes"] == list("0123456789")
    assert about["normalisation"] == {"mean": [0.3059], "std": [0.3763]}
    assert about["input"]["range"] == [[pytest.approx(-0.3059 / 0.3763, 1e-4), pytest.approx(0.6941 / 0.3763, 1e-4)]]
    assert about["metrics"] == finished.metrics
    assert about["trained_by"] == json.loads((finished.folder / "environment.json").read_text())["command"]
    assert about["command"].startswith("dl-zoo export ")
    assert about["torch"] == torch.__version__
    assert about["largest_difference"] == 0
    assert "differ from the net's by 0.0e+00" in said.out
    net = create_model(about["name"].split("-")[0], **about["arguments"])  # lenet5-digits
    assert f"{type(net).__module__}.{type(net).__name__}" == about["model"]


def test_weights_alone_start_another_net(finished: Result, cli: Callable[..., Said]) -> None:
    from safetensors.torch import load_file

    cli("export", str(finished.folder), "--format", "safetensors", "--output", "net.safetensors")
    net = create_model("lenet5")
    net.load_state_dict(load_file("net.safetensors"))
    inputs = torch.randn(2, 1, 32, 32)
    assert torch.equal(net.eval()(inputs), load_run(finished.folder).net.eval()(inputs))


def test_a_net_of_vectors_as_a_torch_program_in_its_run_folder(cli: Callable[..., Said]) -> None:
    folder = trained(
        "model=mlp", "data=two_spirals", "model.dropout=0.5", "trainer.max_epochs=0", "name=spirals"
    ).folder
    assert cli("export", str(folder), "--format", "torch_export").code == 0
    about = json.loads((folder / "spirals.pt2.json").read_text())
    assert about["input"] == {"name": "input", "dtype": "float32", "shape": ["batch", 2]}
    net = torch.export.load(folder / "spirals.pt2").module()
    inputs = torch.randn(7, 2)
    torch.testing.assert_close(net(inputs), load_run(folder).net.eval()(inputs))  # and without dropout


def test_the_metrics_are_those_of_the_best_checkpoint_alone(finished: Result, cli: Callable[..., Said]) -> None:
    command = (
        "export",
        str(finished.folder),
        "--format",
        "safetensors",
        "--checkpoint",
        "last",
        "--output",
        "last.safetensors",
    )
    assert cli(*command).code == 0
    about = json.loads(Path("last.safetensors.json").read_text())
    assert (about["checkpoint"], about["metrics"], about["epoch"]) == ("last.ckpt", None, 2)


def test_the_batch_can_be_fixed(tmp_path: Path) -> None:
    net = create_model("softmax_regression").eval()
    file = tmp_path / "net.pt2"
    export.write(net, "torch_export", file, torch.zeros(3, 784), any_batch=False)
    program = export.used("torch_export", file, OmegaConf.create())
    assert program(torch.zeros(3, 784)).shape == (3, 10)
    with pytest.raises(Exception, match="3"):
        program(torch.zeros(2, 784))


class Biased(nn.Module):
    """Adds `by` to each logit; where `of` is set, only to batches of that size."""

    def __init__(self, by: float, of: int | None = None):
        super().__init__()
        self.by, self.of = by, of

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + (self.by if self.of in (None, len(x)) else 0)


@pytest.mark.parametrize("other", [Biased(0.01), Biased(0.01, of=1), Biased(0.01, of=3), Biased(float("nan"))])
def test_another_net_is_told_from_the_net(other: nn.Module) -> None:
    assert export.compared(Biased(0), Biased(1e-6), (10,), None, (1, 3)) < 1e-5
    with pytest.raises(export.NotTheNet, match="differ from the net's by"):
        export.compared(Biased(0), other, (10,), None, (1, 3))
    with pytest.raises(export.NotTheNet, match="shape"):
        export.compared(Biased(0), lambda x: x[:, :1], (10,), None, (1,))


def test_a_file_that_is_not_the_net_is_not_left_behind(
    finished: Result, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("net.safetensors").write_text("the older one")
    monkeypatch.setattr(export, "used", lambda *_: lambda inputs: torch.zeros(len(inputs), 10))
    said = cli("export", str(finished.folder), "--format", "safetensors", "--output", "net.safetensors")
    assert said.code == 3
    assert said.err.startswith("dl-zoo: nothing was written: the file was made, but its logits differ")
    assert said.err.count("\n") == 1
    assert {path.name for path in Path().iterdir()} == {"net.safetensors"}
    assert Path("net.safetensors").read_text() == "the older one"


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_net_that_cannot_be_traced_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger("torch").level
    with pytest.raises(UserError, match=r"^--format torch_export: this net cannot be written as such \(.*; try "):
        export.write(Branching(), "torch_export", tmp_path / "net.pt2", torch.zeros(2, 3), True)
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("torch").level == before


def test_bad_words_are_one_line_and_leave_nothing(
    finished: Result, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(finished.folder)
    Path("afile").write_text("x")
    for words, line in {
        (run, "--format", "onnx", "--batch", "0"): "--batch 0: must be dynamic, or a whole number of at least 1",
        ("nowhere", "--format", "onnx"): "nowhere: there is no such run folder or checkpoint",
        (
            run,
            "--format",
            "onnx",
            "--output",
            "no/net.onnx",
        ): "--output no/net.onnx: there is no such folder to write into",
        (
            run,
            "--format",
            "onnx",
            "--output",
            "net.pt2",
        ): "--output net.pt2: the name of a file of format onnx ends in .onnx",
    }.items():
        assert one_line(cli("export", *words)) == f"dl-zoo: {line}"
    assert "afile is damaged" in one_line(cli("export", "afile", "--format", "onnx"))
    assert "invalid choice: 'onx'" in one_line(cli("export", run, "--format", "onx"))
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    said = one_line(cli("export", run, "--format", "onnx"))
    assert said == "dl-zoo: --format onnx needs onnxruntime, not installed here: pip install onnxruntime"
    assert {path.name for path in Path().iterdir()} == {"afile"}


def test_a_place_that_cannot_be_written_is_one_line(
    finished: Result, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.folder, "write_json", full)
    said = one_line(cli("export", str(finished.folder), "--format", "safetensors", "--output", "net.safetensors"))
    assert said == "dl-zoo: net.safetensors cannot be written: No space left on device; name another with --output"
    assert not list(Path().iterdir())


def test_what_ships_with_the_zoo_is_exported_and_asked_by_its_name(
    finished: Result, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "WEIGHTS", Path("shipped").absolute())
    checkpoints.publish(finished.folder, "lenet5-digits", "CC BY 4.0")
    shipped = {path.name for path in Path("shipped").iterdir()}
    said = cli("export", "zoo:lenet5-digits", "--format", "safetensors")
    assert (said.code, said.err) == (0, "")
    assert {path.name for path in Path("shipped").iterdir()} == shipped
    about = json.loads(Path("lenet5-digits.safetensors.json").read_text())
    assert about["classes"] == list("0123456789")
    assert about["metrics"]["test/acc"] == finished.metrics["test/acc"]
    inputs = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(trained_net("zoo:lenet5-digits")(inputs), trained_net(finished.folder)(inputs))
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save("white.png")
    one, other = (cli("predict", str(path), "white.png") for path in ("zoo:lenet5-digits", finished.folder))
    assert one == other
    assert one.code == 0
    measured = cli("evaluate", "zoo:lenet5-digits")
    assert f"test/acc     {finished.metrics['test/acc']:.6g}  95 % interval" in measured.out
    assert "written" not in measured.out
    assert {path.name for path in Path("shipped").iterdir()} == shipped
    assert "none ship for this model" in one_line(cli("predict", "zoo:zebra", "white.png"))


def trained_net(path: Any) -> nn.Module:
    return load(path).net.eval()


def test_a_strangers_checkpoint_names_no_place(finished: Result, cli: Callable[..., Said]) -> None:
    content = torch.load(finished.folder / "checkpoints" / "best.ckpt", weights_only=True)
    content["dl_zoo"]["config"]["name"] = "../outside"
    Path("deep").mkdir()
    torch.save(content, "deep/net.ckpt")
    assert cli("export", "deep/net.ckpt", "--format", "safetensors").code == 0
    assert {path.name for path in Path("deep").iterdir()} == {
        "net.ckpt",
        "outside.safetensors",
        "outside.safetensors.json",
    }
    assert json.loads(Path("deep/outside.safetensors.json").read_text())["metrics"] is None


# Name, then net arguments: as narrow as the net can be, since what is tried is its operators.
NETS: dict[str, dict[str, Any]] = {
    "lenet5_1998": {},
    "conv4_relu": {"width": 8, "lrn": True},
    "conv_3x3pair": {"width": 8},
    "alexnet": {"width": 8, "num_classes": 10},
    "alexnet_tv": {"width": 8, "num_classes": 10},
    "googlenet": {"width": 16, "num_classes": 10},
    "googlenet_tv": {"width": 16, "num_classes": 10},
    "vgg11": {"width": 4, "num_classes": 10},
    "vgg11_bn": {"width": 4, "num_classes": 10},
    "vgg11_cifar": {"width": 8},
    "resnet18": {"width": 8, "num_classes": 10},
    "resnet50": {"width": 8, "num_classes": 10, "stride_in": "1x1"},
    "resnet20": {"width": 8},
    "resnet32": {"width": 8, "shortcut": "B"},
}
SMALL_PICTURES = ("lenet5_1998", "conv4_relu", "conv_3x3pair", "vgg11_cifar", "resnet20", "resnet32")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_zoo_are_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = create_model(name, **NETS[name]).eval()
    for each in net.modules():  # as after training, or a mistake would hardly show in the outputs
        if isinstance(each, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(each.weight)
        elif isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.running_mean, -0.1, 0.1)
            nn.init.uniform_(each.running_var, 0.5, 2)
    size = 32 if name in SMALL_PICTURES else options.card(name)["dims"].get("image_size", 224)
    shape = (1 if name == "lenet5_1998" else 3, size, size)
    for format in ("onnx", "torch_export"):
        file = tmp_path / f"net{export.SUFFIXES[format]}"
        export.write(net, format, file, torch.zeros(2, *shape), any_batch=True)
        print(name, format, export.compared(net, export.used(format, file, OmegaConf.create()), shape, None, (1, 3)))
