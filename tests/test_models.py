"""What holds for every model of the zoo: a new one is tested as soon as its YAML is there."""

import inspect
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import get_class
from torch import Tensor, nn

from dl_zoo import create_model, list_models

CONFIGS = Path(__file__).parents[1] / "configs" / "model"
LEARNING_RATE = {"softmax_regression": 1e-2, "perceptron": 1e-2}  # of Adam in the overfit test, else 1e-3
KEYS = {"paper", "year", "parameters", "dims", "task", "gradient", "weights", "names"}

every_model = pytest.mark.parametrize("name", list_models())
HAND_SET = "threshold_unit"  # gradient: none in its card
every_learner = pytest.mark.parametrize("name", [name for name in list_models() if name != HAND_SET])


def config(name: str) -> dict[str, Any]:
    """The YAML as it is written, `${dims.*}` unresolved."""
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def arguments(name: str) -> dict[str, Any]:
    return {key: value for key, value in config(name).items() if key not in ("card", "defaults", "_target_")}


def signature(name: str) -> dict[str, Any]:
    net = get_class(config(name)["_target_"])
    return {key: parameter.default for key, parameter in inspect.signature(net).parameters.items()}


def example(name: str, batch: int = 8) -> tuple[Tensor, Tensor]:
    """Random inputs and targets of the paper's sizes."""
    dims = config(name)["card"]["dims"]
    if "channels" in dims:
        size = dims.get("image_size", 32)
        inputs = torch.randn(batch, dims["channels"], size, size)
    else:
        inputs = torch.randn(batch, dims["features"])
    return inputs, torch.randint(0, dims["num_classes"], (batch,))


def gradients(net: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor | None]:
    F.cross_entropy(net(inputs), targets).backward()
    return {key: parameter.grad for key, parameter in net.named_parameters()}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_the_zoo_is_found() -> None:
    assert {"mlp", "lenet5", "lenet5_1998"} <= set(list_models())
    assert set(list_models("lenet*")) <= set(list_models())


@every_model
def test_parameters_are_those_of_the_card(name: str) -> None:
    net = create_model(name)
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == config(name)["card"]["parameters"]


@every_model
def test_card(name: str) -> None:
    card = config(name)["card"]
    assert set(card) <= KEYS
    assert {"paper", "year", "parameters", "dims", "task"} <= set(card)
    assert str(card["year"]) in card["paper"]
    others = {alias for other in list_models() if other != name for alias in config(other)["card"].get("names", [])}
    assert not {name, *card.get("names", [])} & ({*others, *list_models()} - {name})


@every_model
def test_yaml_lists_every_argument(name: str) -> None:
    assert list(arguments(name)) == list(signature(name))


@every_model
def test_defaults_agree(name: str) -> None:
    """Written values equal the signature's; `${dims.x}` stands for the card's x, which equals it too."""
    dims = {f"${{dims.{key}}}": value for key, value in config(name)["card"]["dims"].items()}
    written = {k: dims.get(v, v) if isinstance(v, str) else v for k, v in arguments(name).items()}
    assert written == signature(name)
    assert {k: type(v) for k, v in written.items()} == {k: type(v) for k, v in signature(name).items()}


@every_model
def test_output_is_finite(name: str) -> None:
    inputs, _ = example(name)
    logits = create_model(name)(inputs)
    assert logits.shape == (len(inputs), config(name)["card"]["dims"]["num_classes"])
    assert logits.isfinite().all()


@every_learner
def test_overfits_eight_samples(name: str) -> None:
    net, (inputs, targets) = create_model(name).train(), example(name)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE.get(name, 1e-3))
    first = F.cross_entropy(net(inputs), targets).item()
    assert first < 3 * math.log(config(name)["card"]["dims"]["num_classes"])  # it starts near a guess
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), targets)
        loss.backward()
        optimizer.step()
        if loss < 0.1 * first:
            return
    pytest.fail(f"loss {first:.3f} -> {loss.item():.3f}")


@every_learner
def test_every_parameter_gets_a_gradient(name: str) -> None:
    for key, gradient in gradients(create_model(name), *example(name)).items():
        assert gradient is not None, key
        assert gradient.isfinite().all(), key
        assert gradient.any(), key


@every_model
def test_saved_and_loaded_it_computes_the_same(name: str) -> None:
    saved, loaded = create_model(name).eval(), create_model(name).eval()
    inputs, _ = example(name)
    with torch.no_grad():
        for parameter in saved.parameters():
            parameter.add_(torch.randn_like(parameter))  # two nets may start alike: at zero, or set by hand
    assert not torch.equal(saved(inputs), loaded(inputs)) or name in HAND_SET
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(saved(inputs), loaded(inputs))


@every_learner
def test_trains_on_meta(name: str) -> None:
    """No tensor on a fixed device, no value needed on the host: built there, and moved there."""
    with torch.device("meta"):
        built, (inputs, targets) = create_model(name), example(name)
    for net in (built, create_model(name).to("meta")):
        assert all(gradient is not None and gradient.is_meta for gradient in gradients(net, inputs, targets).values())


@every_model
def test_return_type_does_not_depend_on_training(name: str) -> None:
    net, (inputs, _) = create_model(name), example(name)
    training, evaluating = net.train()(inputs), net.eval()(inputs)
    assert type(training) is type(evaluating)
    assert training.shape == evaluating.shape
