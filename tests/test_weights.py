"""Starting from other weights: the zoo's, torchvision's, strangers'; what is said of it, and nothing is skipped."""

import hashlib
import json
import os
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import dl_zoo
from dl_zoo import checkpoints, options, pretrained, zoo
from dl_zoo.data.vocabulary import restored
from dl_zoo.errors import UserError
from dl_zoo.matching import Report
from dl_zoo.models.lenet5 import LeNet5
from dl_zoo.run import Result
from dl_zoo.stages import heads as zoo_heads

State = dict[str, Tensor]
THEIR_NAMES = {"alexnet_tv": "alexnet", "googlenet_tv": "googlenet", "vit_base": "vit_b_16", "vit_large": "vit_l_16"}
STRANGER = Path(os.environ.get("DL_ZOO_DATA", "data")).absolute().parent / "checkpoints" / "resnet32-d509ac18.th"


class Small(nn.Module):
    """A convolution with its norm and a head; `heads` as the zoo's nets say it."""

    heads = ("fc",)

    def __init__(self, num_classes: int = 4, width: int = 3):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).mean((2, 3)))


def small(seed: int = 1, **arguments: int) -> Small:
    torch.manual_seed(seed)
    return Small(**arguments)


def loaded(net: nn.Module, content: Any, tmp_path: Path, **arguments: Any) -> Report:
    path = tmp_path / "theirs.pth"
    torch.save(content, path)
    return checkpoints.load_weights(net, path, **arguments)


def renamed(state: State, prefix: str = "", **names: str) -> State:
    """Under `prefix`, with other first components."""
    return {
        prefix + ".".join([names.get(k.split(".")[0], k.split(".")[0]), *k.split(".")[1:]]): v for k, v in state.items()
    }


def assert_equal(net: nn.Module, state: State, but: tuple[str, ...] = ()) -> None:
    for key, value in net.state_dict().items():
        if key in state:
            assert torch.equal(value, state[key]) != key.startswith(but or "nothing"), key


# ---- strangers' files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        OrderedDict,
        lambda state: {"epoch": 3, "state_dict": renamed(state, "module.")},
        lambda state: {"model_state_dict": renamed(state, "module._orig_mod.")},
        lambda state: {"model": renamed(state, "model."), "optimizer": {"lr": 0.1}},
        lambda state: {"net": state, "ema": {key: value * 2 for key, value in state.items()}},
        lambda state: {"ema": {"state_dict": state}},
        lambda state: {"state_dict": state, "best_acc1": torch.tensor(76.1)},
        lambda state: {"state_dict": {"n_averaged": torch.tensor(3), **renamed(state, "module.encoder.")}},
    ],
)
def test_wrappers_and_prefixes_are_taken_off(wrapped: Callable[[State], Any], tmp_path: Path) -> None:
    theirs, net = small(1).state_dict(), small(2)
    report = loaded(net, wrapped(theirs), tmp_path)
    assert_equal(net, theirs)
    assert (report.percent, len(report.matched), report.renamed) == (100, 8, {})


def test_a_net_whose_own_names_share_a_prefix_keeps_it(tmp_path: Path) -> None:
    net, other = nn.ModuleDict({"module": small(1)}), nn.ModuleDict({"module": small(2)})
    loaded(net, other.state_dict(), tmp_path)
    assert_equal(net, other.state_dict())


def test_safetensors_are_read_and_damaged_ones_are_told(tmp_path: Path) -> None:
    theirs, net = small(1).state_dict(), small(2)
    path = tmp_path / "theirs.safetensors"
    save_file(theirs, path)
    assert checkpoints.load_weights(net, path).percent == 100
    assert_equal(net, theirs)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="is damaged"):
        checkpoints.load_weights(net, path)
    (tmp_path / "theirs.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match="a file of ONNX"):
        checkpoints.load_weights(net, tmp_path / "theirs.onnx")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(UserError, match="TorchScript archive, which is code"):
        checkpoints.load_weights(net, tmp_path / "script.pt")
    with pytest.raises(UserError, match="holds no state dict of tensors"):
        loaded(net, {"epoch": 3, "model": {"lr": 0.1}}, tmp_path)


def test_an_old_file_without_counts_of_batches_loads(tmp_path: Path) -> None:
    theirs = small(1).state_dict()
    del theirs["bn.num_batches_tracked"]
    report = loaded(small(2), theirs, tmp_path)
    assert (report.percent, report.missing) == (100, [])


def test_a_head_of_another_size_stays_fresh_and_is_named(tmp_path: Path) -> None:
    theirs, net = small(1, num_classes=9).state_dict(), small(2)
    fresh = net.fc.weight.clone()
    report = loaded(net, theirs, tmp_path)
    assert report.replaced == ["fc.bias", "fc.weight"]
    assert torch.equal(net.fc.weight, fresh)
    assert_equal(net, {key: value for key, value in theirs.items() if not key.startswith("fc")})
    assert report.percent == pytest.approx(100 * (27 + 6) / (27 + 6 + 16))
    assert str(report).endswith("6 tensors matched, 67.3 % of the parameters; replaced: fc")


def test_a_head_of_another_size_by_another_name_stays_fresh_too(tmp_path: Path) -> None:
    net = small(2)
    fresh = net.fc.weight.clone()
    report = loaded(net, renamed(small(1, num_classes=9).state_dict(), "module.", fc="linear"), tmp_path)
    assert (report.replaced, report.dropped) == (["fc.bias", "fc.weight"], ["linear.bias", "linear.weight"])
    assert torch.equal(net.fc.weight, fresh)
    assert str(report).endswith("replaced: fc; dropped: linear")


def test_nets_of_one_body_keep_their_own_heads_and_drop_those_of_their_kin(tmp_path: Path) -> None:
    class Kin(Small):
        all_heads = ("fc", "aux", "aux2")

    theirs = small(1).state_dict()
    for their_heads in ({"aux": nn.Linear(3, 4), "aux2": nn.Linear(4, 2)}, {}):
        body = {name: value for name, value in theirs.items() if not name.startswith("fc")}
        state = {**body, **nn.ModuleDict(their_heads).state_dict()}
        net = Kin()
        fresh = net.fc.weight.clone()
        report = loaded(net, state, tmp_path)
        assert (report.replaced, len(report.dropped)) == (["fc.bias", "fc.weight"], 2 * len(their_heads))
        assert torch.equal(net.fc.weight, fresh)
        assert_equal(net, body)
        with pytest.raises(UserError, match="missing: fc"):  # who does not say so is not spared
            loaded(small(2), body, tmp_path)


def test_a_folder_as_hugging_face_saves_it(tmp_path: Path) -> None:
    theirs = small(1).state_dict()
    first, second = ({n: v for n, v in theirs.items() if n.startswith("conv") == part} for part in (True, False))
    save_file(first, tmp_path / "model-00001-of-00002.safetensors")
    save_file(second, tmp_path / "model-00002-of-00002.safetensors")
    where = {**dict.fromkeys(first, "model-00001-of-00002.safetensors"), **dict.fromkeys(second, "../other")}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(UserError, match=r"names \.\./other, which is not a file beside it"):
        checkpoints.load_weights(small(2), tmp_path)
    index.write_text(json.dumps({"weight_map": where | dict.fromkeys(second, "model-00002-of-00002.safetensors")}))
    net = small(2)
    assert checkpoints.load_weights(net, tmp_path).percent == 100
    assert_equal(net, theirs)
    torch.save(small(3).state_dict(), tmp_path / "pytorch_model.bin")
    save_file(small(4).state_dict(), tmp_path / "model.safetensors")  # of all, the first that Hugging Face's looks for
    checkpoints.load_weights(net, tmp_path)
    assert_equal(net, small(4).state_dict())


def test_another_librarys_layout_is_read_by_the_net_and_named(tmp_path: Path) -> None:
    class Adopting(Small):
        def adopted(self, state: State) -> tuple[str, State]:
            there = any(name.startswith("theirs.") for name in state)
            return ("Theirs", renamed(state, theirs="conv")) if there else ("", state)

    theirs = small(1).state_dict()
    for state, said in ((theirs, "theirs.pth"), (renamed(theirs, conv="theirs"), "theirs.pth (Theirs)")):
        net = Adopting()
        assert loaded(net, state, tmp_path).source.endswith(said)
        assert_equal(net, theirs)


def test_a_deeper_or_shallower_net_is_told_as_such(tmp_path: Path) -> None:
    def tower(depth: int) -> nn.Module:
        return nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(depth)), "fc": nn.Linear(2, 3)})

    for here, there, said in ((2, 4, "a deeper"), (4, 2, "a shallower")):
        with pytest.raises(UserError, match=rf"it seems to be of {said} net \(both have layers\): choose model="):
            loaded(tower(here), tower(there).state_dict(), tmp_path)


def test_a_head_that_the_net_does_not_have_is_dropped(tmp_path: Path) -> None:
    theirs = small(1).state_dict()
    for state in (theirs, renamed(theirs, "module.", fc="linear")):
        report = loaded(small(2, num_classes=0), state, tmp_path)
        assert (report.percent, len(report.dropped)) == (100, 2)


def test_the_one_module_left_over_is_the_same_by_another_name(tmp_path: Path) -> None:
    theirs, net = small(1).state_dict(), small(2)
    report = loaded(net, renamed(theirs, "module.", fc="linear"), tmp_path)
    assert report.renamed == {"linear.bias": "fc.bias", "linear.weight": "fc.weight"}
    assert_equal(net, theirs)
    with pytest.raises(UserError, match=r"if these are the same, weights_map=\{norm: bn\}$"):
        loaded(net, {**renamed(theirs, bn="norm"), **renamed(nn.BatchNorm2d(9).state_dict(), "norm.")}, tmp_path)
    with pytest.raises(UserError, match=r"missing: bn, fc; unexpected: norm, linear; rename with"):
        loaded(net, renamed(theirs, fc="linear", bn="norm"), tmp_path)


def test_the_map_renames_and_drops(tmp_path: Path) -> None:
    theirs, net = small(1).state_dict(), small(2)
    state = {**renamed(theirs, "net.", fc="linear", bn="norm"), "metric.count": torch.zeros(2)}
    report = loaded(net, state, tmp_path, weights_map={"linear": "fc", "norm": "bn", "metric": None})
    assert_equal(net, theirs)
    assert report.dropped == ["metric.count"]
    fresh = small(2)
    report = loaded(fresh, renamed(theirs, "net."), tmp_path, weights_map={"fc": None})  # the same size, other classes
    assert (report.replaced, report.dropped) == (["fc.bias", "fc.weight"], ["fc.weight", "fc.bias"])
    assert torch.equal(fresh.fc.weight, small(2).fc.weight)
    with pytest.raises(UserError, match="the file has nothing named lin; it has conv, bn, fc"):
        loaded(net, theirs, tmp_path, weights_map={"lin": "fc"})
    with pytest.raises(UserError, match=r"unexpected: aux\.fc; if it is not needed, weights_map=\{aux: null\}"):
        loaded(net, {**theirs, "aux.fc.x": torch.zeros(2)}, tmp_path)


def test_a_map_never_writes_one_tensor_over_another(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    there = {name: value + 1 for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"two tensors would be b\.bias; drop one of them"):
        loaded(net, there, tmp_path, weights_map={"a": "b"})
    loaded(net, there, tmp_path, weights_map={"a": "b", "b": "a"})  # a swap
    assert torch.equal(net.a.weight, there["b.weight"])
    assert torch.equal(net.b.weight, there["a.weight"])


def test_a_head_for_other_classes_is_not_taken_though_it_has_the_size(finished: Result) -> None:
    net = LeNet5()
    before = net.output.weight.clone()
    report = checkpoints.load_weights(net, finished.folder, classes=[*"abcdefghij"])
    assert report.replaced == ["output.bias", "output.weight"]
    assert torch.equal(net.output.weight, before)
    assert not checkpoints.load_weights(net, finished.folder, classes=[*map(str, range(10))]).replaced


def test_another_architecture_is_one_line_with_both_shapes(tmp_path: Path) -> None:
    net = small(1)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        loaded(net, small(1, width=5).state_dict(), tmp_path)
    said = str(caught.value)
    assert "1 of 7 tensors match, 8.2 % of the parameters; conv.weight is 5 x 1 x 3 x 3 in the file and 3 x" in said
    assert said.endswith(
        "it seems to be of another architecture, or of other arguments: choose model= or its numbers after it"
    )
    assert "\n" not in said
    with pytest.raises(
        UserError, match=r"0 of 10 tensors.*the file has conv\.weight \(3 x 1 x 3 x 3\), the net c1\.weight \(6 x 1 "
    ):
        loaded(LeNet5(), small(1).state_dict(), tmp_path)
    assert_equal(net, before)  # a failed load changes nothing


@pytest.mark.skipif(not STRANGER.is_file(), reason="the public checkpoint is not there")
def test_a_public_resnet32_loads_without_a_map() -> None:
    theirs = torch.load(STRANGER, weights_only=True, map_location="cpu")["state_dict"]
    for weights_map in (None, {"linear": "fc"}):
        net = dl_zoo.create_model("resnet32", weights=STRANGER, weights_map=weights_map)
        assert torch.equal(net.fc.weight, theirs["module.linear.weight"])
        assert torch.equal(net.layer3[4].bn2.running_var, theirs["module.layer3.4.bn2.running_var"])
    features = dl_zoo.create_model("resnet32", weights=STRANGER, num_classes=0)
    assert features.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    with pytest.raises(UserError, match="of another architecture"):
        dl_zoo.create_model("resnet20", weights=STRANGER, width=8)


# ---- torchvision's ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address that serves a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()
        thread.join()


@pytest.fixture
def official(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, State]:
    """A narrow ResNet-18 in place of torchvision's weights: the file served, and what it holds."""
    address, folder = server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    state = dl_zoo.create_model("resnet18", width=2).state_dict()
    torch.save(state, folder / "new.pth")
    name = f"resnet18-{hashlib.sha256((folder / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "new.pth").rename(folder / name)
    entry = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.value
    monkeypatch.setitem(entry.__dict__, "url", f"{address}/{name}")
    return folder / name, state


def test_torchvisions_weights_are_downloaded_checked_and_kept(official: tuple[Path, State], tmp_path: Path) -> None:
    served, state = official
    net = dl_zoo.create_model("resnet18", width=2, num_classes=5, weights="torchvision")
    assert_equal(net, {key: value for key, value in state.items() if not key.startswith("fc")})
    kept = tmp_path / "cache" / "hub" / "checkpoints" / served.name
    served.unlink()  # from here on only the kept one
    assert dl_zoo.create_model("resnet18", width=2, weights="torchvision:V1").fc.weight.shape == (1000, 16)
    kept.write_bytes(kept.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"is damaged \(its SHA-256 is not the one in its name\)"):
        dl_zoo.create_model("resnet18", width=2, weights="torchvision")


def test_a_download_that_fails_says_what_was_expected_where(
    official: tuple[Path, State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, _ = official
    kept = tmp_path / "cache" / "hub" / "checkpoints" / served.name
    content = served.read_bytes()
    served.write_bytes(content[:-9])
    with pytest.raises(UserError, match=r"what came has another SHA-256"):
        dl_zoo.create_model("resnet18", width=2, weights="torchvision")
    served.unlink()
    with pytest.raises(
        UserError, match=rf"expected {kept}, and the download of http://127.*404.*put the file there by"
    ):
        dl_zoo.create_model("resnet18", width=2, weights="torchvision")
    assert [path.name for path in kept.parent.iterdir() if not path.name.endswith(".lock")] == []
    kept.write_bytes(content)
    dl_zoo.create_model("resnet18", width=2, weights="torchvision")


def test_a_net_without_a_head_of_its_own_drops_nothing(tmp_path: Path) -> None:
    """Its output is tied to its embedding (`heads` is empty), so what is left over in a file is no other net's head."""

    class Tied(nn.Module):
        heads = ()

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)

    save_file({**Tied().state_dict(), "stray.weight": torch.zeros(2, 3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"unexpected: stray"):
        checkpoints.load_weights(Tied(), tmp_path / "w.safetensors")


def test_sources_by_name() -> None:
    assert pretrained.full_name("torchvision", "resnet50") == "torchvision:resnet50:IMAGENET1K_V1"
    assert pretrained.full_name("torchvision:V2", "resnet50") == "torchvision:resnet50:IMAGENET1K_V2"
    assert pretrained.full_name("torchvision:vgg16:DEFAULT", "") == "torchvision:vgg16:DEFAULT"
    for source, model, said in (
        ("torchvision", "lenet5", "torchvision has none for lenet5; it has for "),
        ("zoo:nothing", "lenet5", "weights=zoo:nothing: none ship for lenet5; there are "),
    ):
        with pytest.raises(UserError, match=said):
            pretrained.full_name(source, model)
    with pytest.raises(UserError, match="resnet18 has IMAGENET1K_V1, DEFAULT"):
        pretrained.path_of("torchvision:resnet18:V9")


@pytest.mark.parametrize("name", pretrained.officially())
def test_torchvision_has_weights_for_each_card_that_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same number of parameters, and under the address that is asked for."""
    from torchvision.models import get_model_weights

    asked: list[str] = []
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained, "_download", lambda url, *rest: asked.append(url))
    pretrained.path_of(f"torchvision:{name}")
    (weights,) = (w for w in get_model_weights(THEIR_NAMES.get(name, name)) if w.url == asked[0])
    assert weights.name == pretrained.FIRST
    heads = {"googlenet_tv": 13_004_888 - 6_624_904}.get(name, 0)  # torchvision counts without the auxiliary ones
    assert weights.meta["num_params"] == zoo.options.card(name)["parameters"] - heads


# ---- the zoo's own ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(finished: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    return checkpoints.publish(finished.folder, "lenet5-digits", licence="CC BY 4.0")


def test_a_run_is_published_and_loaded_by_name(shipped: Path, finished: Result) -> None:
    card = json.loads(shipped.with_suffix(".json").read_text())
    assert (card["model"], card["classes"], card["licence"]) == ("lenet5", list("0123456789"), "CC BY 4.0")
    assert card["metrics"]["test/acc"] == finished.metrics["test/acc"]
    assert card["size"] == shipped.stat().st_size < 250_000
    best = checkpoints.net_state(checkpoints.read(checkpoints.find(finished.folder)))
    net: Any = dl_zoo.create_model("lenet", pretrained=True)
    assert_equal(net, best)
    assert net.card["normalisation"] == card["normalisation"]
    seven = dl_zoo.create_model("lenet5", weights="zoo:lenet5-digits", num_classes=7)
    assert_equal(seven, {key: value for key, value in best.items() if not key.startswith("output")})
    other = LeNet5()
    assert checkpoints.load_weights(other, "zoo:lenet5-digits").percent == 100


def test_shipped_weights_that_are_damaged_absent_or_several(shipped: Path, finished: Result) -> None:
    checkpoints.publish(finished.folder, "lenet5-other", licence="")
    with pytest.raises(UserError, match=r"several ship for lenet5; there are zoo:lenet5-digits, zoo:lenet5-other"):
        dl_zoo.create_model("lenet5", pretrained=True)
    with pytest.raises(UserError, match=r"none ship for mlp; there are zoo:lenet5-digits, zoo:lenet5-other"):
        dl_zoo.create_model("mlp", pretrained=True)
    with pytest.raises(UserError, match="must begin with the model's name"):
        checkpoints.publish(finished.folder, "mlp-digits", licence="")
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(UserError, match="its SHA-256 is not the one on its card"):
        dl_zoo.create_model("lenet5", weights="zoo:lenet5-digits")


# ---- without drawing what is overwritten -----------------------------------------------------------------------------


def test_nets_that_get_weights_draw_no_initial_ones(tmp_path: Path) -> None:
    """The generator stands still; what is not overwritten is drawn after all, and is as torch makes it."""
    net = dl_zoo.create_model("resnet18", width=8)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    same = dl_zoo.create_model("resnet18", width=8, weights=tmp_path / "w.pth")
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(same, net.state_dict())
    head: Any = dl_zoo.create_model("resnet18", width=8, num_classes=7, weights=tmp_path / "w.pth").fc
    bound = 1 / 64**0.5
    assert 0.9 * bound < head.weight.abs().max() <= bound
    assert 0 < head.bias.abs().max() <= bound


def test_only_parameters_are_left_unset() -> None:
    with zoo.without_initial_weights():
        drawn = nn.init.normal_(torch.zeros(100))
        net = nn.BatchNorm1d(3)
    assert drawn.std() > 0.5
    assert (net.weight.tolist(), net.running_var.tolist()) == ([1.0] * 3, [1.0] * 3)


# ---- what ships ------------------------------------------------------------------------------------------------------


def test_what_ships_is_small_and_loads() -> None:
    cards = pretrained.cards()
    assert {"lenet5-mnist", "resnet20-cifar10_jpg"} <= set(cards)
    assert sum(card["size"] for card in cards.values()) < 15e6
    for name, card in cards.items():
        net = dl_zoo.create_model(card["model"], weights=f"zoo:{name}")
        if options.card(card["model"])["task"] == "classification":
            assert net.get_submodule(zoo_heads(net)[0]).out_features == len(card["classes"])
            assert len(card["classes"]) == card["dims"]["num_classes"]
        elif "vocab_size" in card["dims"]:
            assert len(restored(card["vocabulary"])) == card["dims"]["vocab_size"]
        assert {"command", "seed", "commit", "licence", "normalisation", "metrics"} <= card.keys()


@pytest.mark.skipif(not (Path(os.environ.get("DL_ZOO_DATA", "data")) / "MNIST/raw").is_dir(), reason="MNIST not here")
def test_shipped_lenet5_reads_mnist_as_its_card_says() -> None:
    from dl_zoo import compose, trust

    net = dl_zoo.create_model("lenet5", pretrained=True).eval()
    data = trust.build(compose.compose(["data=mnist", "model=lenet5", "data.batch_size=1000"]).data)
    assert data.normalisation == net.card["normalisation"]
    with torch.no_grad():
        right = sum(int((net(inputs).argmax(1) == targets).sum()) for inputs, targets in data.loader("test"))
    assert right / 10_000 == pytest.approx(net.card["metrics"]["test/acc"], abs=1e-4)
