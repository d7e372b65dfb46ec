"""What holds for every model of the zoo: a new one is tested as soon as its YAML is there.

At the paper's sizes nets are built on `meta` only. On real tensors they are as small as `SMALL` says.
"""

import inspect
import io
import math
import random
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import get_class
from omegaconf import ListConfig, OmegaConf
from torch import Tensor, nn

from dl_zoo import create_model, list_models

CONFIGS = Path(__file__).parents[1] / "configs" / "model"
KEYS = {"paper", "year", "parameters", "dims", "either", "task", "gradient", "weights", "names", "smallest"}
KEYS |= {"states", "lengths", "each_step", "points"}
BEFORE_HEADS = {"lenet5", "lenet5_1998"}  # nets of pictures whose output layer is never replaced
HAND_SET = "threshold_unit"  # gradient: none in its card
SECOND_STEP = "second step"  # gradient: of cards whose nets start with zeros before other layers


class Small(NamedTuple):
    """How a net is made small enough to train here, and how that goes."""

    arguments: dict[str, Any] = {}  # noqa: RUF012 a NamedTuple's default is shared, and nothing changes it
    size: int | None = None  # of its pictures, where the card has no image_size, or its sounds: if below the paper's
    learning_rate: float = 1e-3  # of Adam
    steps: int = 100  # within which it overfits
    to: float = 0.1  # of the loss at the start: what overfitting is


NARROW = {"width": 4, "num_classes": 10}
TEXT = {"vocab_size": 19, "width": 32, "heads": 4, "depth": 2, "dropout": 0.0}
SMALL = {  # by class, and by model where one needs its own
    "SoftmaxRegression": Small(learning_rate=1e-2),
    "Perceptron": Small(learning_rate=1e-2),
    "AlexNet": Small({"width": 12, "num_classes": 10, "dropout": 0.0}, learning_rate=6e-4, steps=150),
    "AlexNetTV": Small({"width": 8, "num_classes": 10, "dropout": 0.0}, 64),
    "GoogLeNet": Small({"width": 16, "num_classes": 10, "dropout": 0.0, "auxiliary_dropout": 0.0}),
    "GoogLeNetTV": Small({"width": 8, "num_classes": 10, "dropout": 0.0, "auxiliary_dropout": 0.0}, 64),
    "googlenet_cifar": Small({"width": 8, "dropout": 0.0}),
    "Conv4": Small({"width": 8}),
    "C3D": Small({"width": 8, "hidden": 32, "frames": 8, "image_size": 32, "num_classes": 10, "dropout": 0.0}),
    "ConvStack": Small({"width": 16}),
    "VGG": Small({"width": 8, "num_classes": 10, "dropout": 0.0}, 32, learning_rate=5e-4, steps=150),
    "VGGCifar": Small({"width": 4}, learning_rate=1e-2),
    "ResNet": Small(NARROW, 32, learning_rate=1e-2),
    "ResNetCifar": Small(NARROW, 16, learning_rate=1e-2),
    "plain44": Small({"width": 8}, 8, learning_rate=5e-3),
    "plain56": Small({"width": 8}, 8, learning_rate=5e-3),
    # the paper's degradation: it does not fit (section 4.2: more than 60 % training error at full width)
    "plain110": Small(NARROW, 8, learning_rate=1e-2, to=0.75),
    "ViT": Small({"width": 12, "patch": 56, "heads": 3, "depth": 2, "num_classes": 10}, learning_rate=1e-2),
    "vit_tiny_cifar": Small({"width": 12, "patch": 8, "depth": 2}, learning_rate=1e-2),
    "vit_digits": Small({"width": 12, "heads": 3, "depth": 2}, learning_rate=1e-2),
    "BERT": Small(TEXT | {"context": 12}, learning_rate=1e-2),
    "GPT": Small(TEXT | {"context": 12}, learning_rate=1e-2),
    "Transformer": Small(TEXT | {"context": 0, "hidden": 24, "head_width": None}, learning_rate=5e-3),
    "CharLSTM": Small({"vocab_size": 19, "width": 32}, learning_rate=2e-2),
    "RNN": Small({"num_classes": 10, "width": 32}, learning_rate=2e-2),
    "LSTM": Small({"num_classes": 10, "width": 32}, learning_rate=2e-2),
    "TCN": Small({"num_classes": 10, "depth": 2}, learning_rate=1e-2),
    "GRU": Small({"num_classes": 10, "width": 32}, learning_rate=2e-2),
    "BiLSTMTagger": Small(
        {"words": 19, "characters": 11, "num_classes": 5, "width": 32, "dropout": 0.0}, learning_rate=1e-2
    ),
    "ForecasterCNN": Small({"horizon": 3, "separate": False}, learning_rate=2e-2),
    "ForecasterGRU": Small({"horizon": 3, "separate": False}, learning_rate=2e-2),
    "DDPMPoints": Small({"width": 32}, learning_rate=2e-2),
    "GAN": Small({"width": 32, "units": 16, "dropout": 0.0, "input_dropout": 0.0}),
    "DCGAN": Small({"width": 8}, learning_rate=1e-2),
    "Autoencoder": Small({"in_features": 64, "widths": (32,), "code": 8}, learning_rate=1e-2),
    "VAE": Small({"in_features": 64, "width": 32, "latents": 4}, learning_rate=1e-2),
    # any one pixel of eight pictures is hard to single out by maps that are shared
    "ConvolutionalVAE": Small({"in_features": 64, "width": 8, "units": 64, "latents": 8}, learning_rate=1e-2, to=0.4),
    "TiedLinear": Small(learning_rate=0.1, to=0.7),  # a class has one weight
    "TextCNN": Small({"vocab_size": 19, "embedding": 16, "filters": 8, "dropout": 0.0}, learning_rate=1e-2),
    "AudioCNN": Small({"width": 4}, 2000, learning_rate=1e-2),
    "AudioCNN1d": Small({"width": 8}, 4000, learning_rate=1e-2),
    "Seq2Seq": Small({"vocab_size": 11, "embedding": 16, "width": 32}, learning_rate=2e-2, steps=150),
    "Seq2SeqAttention": Small({"vocab_size": 11, "embedding": 16, "width": 32}, learning_rate=2e-2, steps=150),
}

SLOW_TO_LEARN = {"alexnet", "googlenet", "googlenet_cifar", "vgg19", "resnet101", "resnet152", "resnet110", "plain110"}
learners = [name for name in list_models() if name != HAND_SET]
every_model = pytest.mark.parametrize("name", list_models())
every_learner = pytest.mark.parametrize("name", learners)


def slow_where_deep(names: list[str], slow: set[str]) -> list[Any]:
    """The models, those that take seconds in the slow tier only; their shallower kin have the same code."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names]


@cache
def config(name: str) -> dict[str, Any]:
    """The YAML as it is written, `${dims.*}` unresolved."""
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def card(name: str) -> dict[str, Any]:
    return config(name)["card"]


def net_class(name: str) -> type[nn.Module]:
    return get_class(config(name)["_target_"])


def arguments(name: str) -> dict[str, Any]:
    """As the YAML lists them; `${dims.x}` stands for the card's x."""
    written = {key: value for key, value in config(name).items() if key not in ("card", "defaults", "_target_")}
    resolved = OmegaConf.create({**written, "dims": card(name)["dims"]})
    return {key: resolved[key] for key in written}


def signature(name: str) -> dict[str, Any]:
    return {key: parameter.default for key, parameter in inspect.signature(net_class(name)).parameters.items()}


def small(name: str) -> Small:
    return SMALL.get(name) or SMALL.get(net_class(name).__name__) or Small()


def paper_net(name: str) -> nn.Module:
    """At the paper's sizes, on `meta`."""
    with torch.device("meta"):
        return net_class(name)(**arguments(name))


def small_net(name: str, **others: Any) -> nn.Module:
    return net_class(name)(**arguments(name) | small(name).arguments | others)


def example(  # noqa: PLR0911
    name: str, given: dict[str, Any], size: int | None = None, batch: int = 8
) -> tuple[Any, Tensor]:
    """Random inputs and targets for a net with the arguments `given`."""
    if "noise" in given:
        return torch.randn(batch, given["noise"]), torch.randint(0, 2, (batch,))  # is it real?
    if given.get("vocab_size"):
        return tokens(name, given["vocab_size"], batch)
    if "words" in given:
        words, targets = torch.randint(2, given["words"], (batch, 6)), torch.randint(given["num_classes"], (batch, 6))
        spelled = torch.randint(2, given["characters"], (batch, 6, 5))
        return (words, spelled, torch.full((batch,), 6, device="cpu")), targets
    if "horizon" in given:  # a step's number of a column stands for its class here
        shape = batch, given["horizon"]
        return torch.randn(batch, 24, given["input_size"]), torch.randint(0, given["num_targets"], shape)
    if card(name)["task"] == "diffusion":  # the number of a coordinate stands for a class here
        points, steps = torch.randn(batch, given["features"]), torch.arange(1, batch + 1, device="cpu")
        return (points, steps.to(points.device)), torch.randint(0, given["features"], (batch,))
    if "copies" in given:  # the number of a copy stands for a class here
        return torch.randn(batch, given["copies"], 2), torch.randint(0, given["copies"], (batch,))
    targets = torch.randint(0, given.get("num_classes") or 10, (batch,))
    if "frames" in given:
        return torch.randn(batch, given["channels"], given["frames"], *[given["image_size"]] * 2), targets
    if "channels" in given:
        dims = card(name)["dims"]
        if "in_features" in given:  # square pictures of so many numbers
            shape = given["channels"], *[math.isqrt(given["in_features"] // given["channels"])] * 2
            return torch.rand(batch, *shape), targets
        size = size or dims.get("image_size") or (224 if dims["num_classes"] == 1000 else 32)
        return torch.randn(batch, given["channels"], size, size), targets
    if "samples" in card(name)["dims"]:
        return 0.1 * torch.randn(batch, 1, size or card(name)["dims"]["samples"]), targets
    if "input_size" in given:
        return torch.randn(batch, 6, given["input_size"]), targets
    return torch.randn(batch, card(name)["dims"]["features"]), targets


def tokens(name: str, symbols: int, batch: int) -> tuple[Any, Tensor]:
    """Random symbols, none of them padding: for translators the inputs are (source, target, lengths)."""
    source, target, targets = torch.randint(min(4, symbols - 1), symbols, (3, batch, 6))
    if card(name).get("each_step") is False:
        return source, targets[:, 0] % 2
    if card(name)["task"] != "translation":
        return source, targets
    return (source, target, torch.full((batch,), 6, device="cpu")), targets


def answer(net: Any, inputs: Any) -> Tensor:
    """What is scored: of nets that remember, the scores without the state; of texts every symbol a row.

    Of nets that say pictures again all that they give, a number a class here, by the means of their latents if any.
    One logit an item is that of the second of two classes.
    """
    if hasattr(net, "latents"):
        noise = torch.zeros(len(inputs), net.latents, device=inputs.device)
        return torch.cat([each.flatten(1) for each in net(inputs, noise=noise)], 1)
    output = net(*inputs) if isinstance(inputs, tuple) else net(inputs)
    output = output[0] if isinstance(output, tuple) else output
    if output.ndim == 1:
        return torch.stack([torch.zeros_like(output), output], dim=1)
    output = output.flatten(1) if output.ndim > 3 else output
    return output.flatten(0, 1) if output.ndim == 3 else output


def remembers(name: str) -> bool:
    """Does it answer with a state, to go on from, or with its latents?"""
    tasks = ("language_modelling", "translation", "tagging", "vae")
    says = bool({"read", "decode"} & {*arguments(name)})
    return card(name)["task"] in tasks or (says and card(name).get("states", True))


def classes(name: str) -> int:
    given = arguments(name) | small(name).arguments
    if "in_features" in given and "channels" in given:  # pixels, and moments of the latents
        return given["in_features"] + 2 * given.get("latents", 0)
    own = 2 if "noise" in given else given.get("features")  # what a discriminator says; a noise's coordinates
    own = own or given.get("copies")
    return given.get("num_classes") or given.get("num_targets") or given.get("vocab_size") or own


def small_example(name: str, **others: Any) -> tuple[Tensor, Tensor]:
    return example(name, arguments(name) | small(name).arguments | others, small(name).size)


def loss_of(net: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of all heads, the auxiliary ones as well where the net has them."""
    logits, auxiliary = net.with_auxiliary(inputs) if hasattr(net, "with_auxiliary") else (answer(net, inputs), ())
    targets = targets.flatten()
    return sum((F.cross_entropy(each, targets) for each in auxiliary), F.cross_entropy(logits, targets))


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)


def test_the_zoo_is_found() -> None:
    assert {"mlp", "lenet5", "lenet5_1998"} <= set(list_models())
    assert set(list_models("lenet*")) <= set(list_models())


# ---- at the paper's sizes ----------------------------------------------------------------------------------------


@every_model
def test_parameters_are_those_of_the_card(name: str) -> None:
    with torch.device("meta"):
        composed = create_model(name)
    assert count(composed) == card(name)["parameters"]
    mine = paper_net(name)  # what the other tests build, without composing
    assert type(mine) is type(composed)
    assert str(mine) == str(composed)


@every_model
def test_card(name: str) -> None:
    assert set(card(name)) <= KEYS
    assert {"paper", "year", "parameters", "dims", "task"} <= set(card(name))
    assert str(card(name)["year"]) in card(name)["paper"]
    assert card(name).get("weights", "torchvision").partition(":")[0] == "torchvision"
    others = {alias for other in list_models() if other != name for alias in card(other).get("names", [])}
    assert not {name, *card(name).get("names", [])} & ({*others, *list_models()} - {name})


@every_model
def test_yaml_lists_every_argument(name: str) -> None:
    assert list(arguments(name)) == list(signature(name))
    kinds = {key: tuple if isinstance(value, ListConfig) else type(value) for key, value in arguments(name).items()}
    assert kinds == {key: type(value) for key, value in signature(name).items()}


def test_defaults_agree() -> None:
    """Of the YAMLs that share a class, one equals the signature's defaults; most classes have one YAML only."""
    sharing = defaultdict(list)
    for name in list_models():
        sharing[net_class(name)].append(name)
    for names in sharing.values():
        assert any(arguments(name) == signature(name) for name in names), names


@pytest.mark.parametrize("name", slow_where_deep(learners, {"resnet101", "resnet152", "resnet110", "plain110"}))
def test_trains_on_meta(name: str) -> None:
    """No tensor on a fixed device, no value needed on the host: built there, and moved there."""
    with torch.device("meta"):
        net, (inputs, targets) = paper_net(name), example(name, arguments(name), batch=2)
        loss_of(net, inputs, targets).backward()
        assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())
        inputs, _ = small_example(name)
    assert answer(small_net(name).to("meta"), inputs).is_meta


# ---- small, on real tensors --------------------------------------------------------------------------------------


@every_model
def test_output_is_finite_and_its_type_does_not_depend_on_training(name: str) -> None:
    net, (inputs, targets) = small_net(name), small_example(name)
    whole = inputs if isinstance(inputs, tuple) else (inputs,)
    assert type(net.train()(*whole)) is type(net.eval()(*whole)) is (tuple if remembers(name) else Tensor)
    training, evaluating = answer(net.train(), inputs), answer(net.eval(), inputs)
    assert training.shape == evaluating.shape == (targets.numel(), classes(name))
    assert training.isfinite().all()
    assert evaluating.isfinite().all()


@pytest.mark.parametrize("name", slow_where_deep(learners, SLOW_TO_LEARN))
def test_overfits_eight_samples(name: str) -> None:
    how, net, (inputs, targets) = small(name), small_net(name).train(), small_example(name)
    optimizer = torch.optim.Adam(net.parameters(), lr=how.learning_rate)
    targets = targets.flatten()
    first = F.cross_entropy(answer(net, inputs), targets).item()
    assert first < 3 * math.log(classes(name))  # it starts near a guess
    for _ in range(how.steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(answer(net, inputs), targets)
        loss.backward()
        optimizer.step()
        if loss < how.to * first:
            return
    pytest.fail(f"loss {first:.3f} -> {loss.item():.3f}")


@every_learner
def test_every_parameter_gets_a_gradient(name: str) -> None:
    """In training or in evaluation: the norm behind a bias takes it away in training, and not in evaluation.

    With the initial weights as they are; only nets whose card says so may take a step first, and must need it.
    """
    net, (inputs, targets) = small_net(name), small_example(name)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def without() -> list[str]:
        optimizer.zero_grad()
        for training in (True, False):
            loss_of(net.train(training), inputs, targets).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        return [key for key, parameter in net.named_parameters() if not parameter.grad.any()]  # type: ignore[union-attr]

    if card(name).get("gradient") == SECOND_STEP:
        assert without()
        optimizer.step()
    assert without() == []


@every_model
def test_saved_and_loaded_it_computes_the_same(name: str) -> None:
    saved, loaded = small_net(name), small_net(name).eval()
    inputs, _ = small_example(name)
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # two nets may start alike: at zero, or set by hand
        answer(saved.train(), inputs)  # which moves running numbers
        expected = answer(saved.eval(), inputs)
        assert expected.isfinite().all()
        assert not torch.equal(expected, answer(loaded, inputs)) or name == HAND_SET
        file = io.BytesIO()
        torch.save(saved.state_dict(), file)
        file.seek(0)
        loaded.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(expected, answer(loaded, inputs))


# ---- nets of pictures --------------------------------------------------------------------------------------------

of_pictures = [
    name
    for name in list_models()
    if {"channels", "num_classes"} <= {*signature(name)}
    and "frames" not in signature(name)
    and card(name)["task"] == "classification"
    and name not in BEFORE_HEADS
]
every_vision_net = pytest.mark.parametrize("name", of_pictures)


@every_vision_net
def test_arguments_that_all_nets_of_pictures_share(name: str) -> None:
    kept = [key for key in arguments(name) if key != "depth"]
    assert kept[:3] == ["channels", "num_classes", "width"]
    first = next(layer for layer in small_net(name, width=12).modules() if isinstance(layer, nn.Conv2d))
    assert first.out_channels == 12
    assert first.in_channels == card(name)["dims"]["channels"]


@every_vision_net
def test_heads_are_what_depends_on_the_classes(name: str) -> None:
    net, other = small_net(name, num_classes=7), small_net(name, num_classes=11)
    shapes = other.state_dict()
    changing = {key for key, value in net.state_dict().items() if value.shape != shapes[key].shape}
    assert changing == {f"{head}.{part}" for head in net.heads for part in ("weight", "bias")}
    assert all(net.get_submodule(head).weight.shape[0] == 7 for head in net.heads)


@every_vision_net
def test_without_a_head_it_gives_features(name: str) -> None:
    whole = small_net(name).eval()
    bare = small_net(name, num_classes=0).eval()
    kept = bare.state_dict().keys()
    bare.load_state_dict({key: value for key, value in whole.state_dict().items() if key in kept})
    inputs, targets = small_example(name)
    features = bare(inputs)
    head = whole.get_submodule(whole.heads[0])
    assert features.shape == (len(targets), head.in_features)
    assert torch.allclose(head(features), whole(inputs), atol=1e-5)
    assert count(bare) < count(whole)


@every_vision_net
def test_smallest_picture(name: str) -> None:
    """The card says the size of the input, or the least that the net takes: one pixel less fails."""
    dims, net = card(name)["dims"], small_net(name)
    assert ("image_size" in dims) != ("smallest" in card(name))
    fits = card(name).get("smallest") or dims["image_size"]
    fails = fits - 1 if "smallest" in card(name) else fits // 2
    run = getattr(net, "with_auxiliary", net)  # auxiliary heads can be what fixes a size
    for training in (True, False):
        net.train(training)
        assert run(torch.randn(2, dims["channels"], fits, fits))[0].isfinite().all()
        if name == "googlenet":  # fixed because the paper's heads are; maps of another size they average
            continue
        with pytest.raises((RuntimeError, ValueError)):
            run(torch.randn(2, dims["channels"], fails, fails))
