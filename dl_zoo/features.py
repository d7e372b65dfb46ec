"""A trained classifier as a way to look at pictures: what its head reads of each, and what it takes each for.

`task.features` of a generative task names one, by any name that `trained` knows, and the measures of what is made up
are taken in its features. It is loaded when it is first asked, it is no part of the task's weights, and pictures are
brought to it as the pictures were that it learnt from: to their size, in its own data's way, and normalised.

`task.features=inception` are Inception's 2,048 by torchmetrics, for distances that compare with other people's; its
weights are downloaded by torch-fidelity, which has to be there.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dl_zoo.errors import UserError

BATCH = 500  # pictures at once
INCEPTION = "inception"
NO_CLASSIFIER = "task.features={}: is no classifier of pictures; zoo:lenet5-mnist is one"


def named(source: str) -> "Features | Inception":
    """Nothing is read yet."""
    return Inception() if source == INCEPTION and not Path(source).exists() else Features(source)


def require(task: Any) -> None:
    """UserError where the features that a task measures by cannot be had: told before a run begins, not at its end."""
    if getattr(task, "features", None) is not None:
        task.features.load()


class Features:
    """Called with pictures (N, C, H, W) uint8, it gives what the classifier's head reads (N, F), and logits (N, K).

    `name`: what its measures are called after, such as `lenet` of LeNet-5.

    Raises:
        UserError: as it is loaded, where there is no such run, checkpoint or shipped file, or it is no classifier of
            pictures; and for pictures of another number of channels.
    """

    def __init__(self, source: str):
        self.source = source

    def load(self) -> None:
        """Now, where it is not loaded yet."""
        self.run  # noqa: B018

    @cached_property
    def facts(self) -> dict[str, Any]:
        from dl_zoo import trained

        try:
            return trained.facts(self.source)
        except UserError as error:
            raise UserError(f"task.features={self.source}: {error}") from error

    @cached_property
    def run(self) -> Any:
        from dl_zoo import trained
        from dl_zoo.data.pictures import PictureData
        from dl_zoo.tasks.classification import Classification

        if not self.facts.get("normalisation") or "channels" not in self.facts["dims"]:  # a text's, told at once
            raise UserError(NO_CLASSIFIER.format(self.source))
        with torch.random.fork_rng([]):  # a net is drawn before its weights are loaded
            run = trained.load(self.source)
        if not isinstance(run.data, PictureData) or not isinstance(run.task, Classification) or run.task.embeds:
            raise UserError(NO_CLASSIFIER.format(self.source))
        run.net.eval().requires_grad_(False)
        return run

    @cached_property
    def name(self) -> str:
        return name_of(self.run.net)

    def __call__(self, pictures: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        net = self.run.net.to(device)
        found = [seen_by(net, self.normalised(self.sized(some)).to(device)) for some in pictures.split(BATCH)]
        features, logits = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
        return features, logits

    def sized(self, pictures: Tensor) -> Tensor:
        """In the size that the net takes: as its own data are brought to it; larger ones are cut or made smaller.

        MNIST's 28 pixels get a frame to LeNet's 32, and a digit of 8 is enlarged to 28 before.
        """
        from dl_zoo.data.memory import centre_crop
        from dl_zoo.data.sources import resized

        channels, size = (int(self.facts["dims"][key]) for key in ("channels", "image_size"))
        if pictures.shape[1] != channels:
            raise UserError(
                f"task.features={self.source}: it sees pictures of {channels} channel(s), and these have"
                f" {pictures.shape[1]}; name a classifier of such pictures"
            )
        if pictures.shape[-1] > size:
            return centre_crop(pictures, size) if self.frames else resized(pictures, size)
        native = own_size(self.run.data)
        pictures = resized(pictures, native) if pictures.shape[-1] < native < size else pictures
        return pictures if pictures.shape[-1] == size else self.run.data.fit_to(pictures, size)

    @cached_property
    def frames(self) -> bool:
        """Do its own data put a frame around small pictures, as MNIST's do, instead of enlarging them?"""
        dot = torch.full((1, int(self.facts["dims"]["channels"]), 2, 2), 255, dtype=torch.uint8)
        return int(self.run.data.fit_to(dot, 4)[..., 0, 0].max()) == 0

    def normalised(self, pictures: Tensor) -> Tensor:
        known = self.facts["normalisation"]
        mean, std = (torch.tensor(known[key]).view(-1, 1, 1) for key in ("mean", "std"))
        return (pictures / 255 - mean) / std


class Inception:
    """As `Features`: the pool of Inception v3 (N, 2048), as torchmetrics' FID has it, and its logits (N, 1008)."""

    name = INCEPTION

    def load(self) -> None:
        """Now, where it is not loaded yet."""
        self.net  # noqa: B018

    @cached_property
    def net(self) -> Any:
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3

            return NoTrainInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"])
        except (ModuleNotFoundError, NameError) as error:  # torchmetrics's own, where torch-fidelity is not there
            raise UserError(
                "task.features=inception: its weights come by torch-fidelity, which is not here; pip install"
                " torch-fidelity, or task.features=zoo:lenet5-mnist, which needs nothing"
            ) from error
        except OSError as error:
            raise UserError(f"task.features=inception: its weights cannot be had ({error})") from error

    def __call__(self, pictures: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        net = self.net.to(device)
        colours = pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures
        with torch.no_grad():
            found = [net._torch_fidelity_forward(some.to(device)) for some in colours.split(BATCH // 10)]
        features, logits = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
        return features, logits


def name_of(net: nn.Module) -> str:
    """The file of a net's class, without the number behind it.

    >>> from dl_zoo.models.lenet5 import LeNet5
    >>> name_of(LeNet5())
    'lenet'
    """
    return re.sub(r"_?\d+$", "", type(net).__module__.rpartition(".")[2])


def seen_by(net: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the head reads of inputs (B, ...), as (B, F), and its answers (B, K)."""
    from dl_zoo.stages import heads

    read: list[Tensor] = []
    modules = dict(net.named_modules())
    hooks = [modules[name].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0])) for name in heads(net)]
    try:
        with torch.no_grad():
            logits = net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return read[-1].flatten(1), logits


def own_size(data: Any) -> int:
    """In pixels: of the pictures before they are fitted. Digits are 8 wide and enlarged, MNIST's 28 and padded.

    Of folders: the size at which their pictures are decoded. Else what the dataset's own YAML states.
    """
    from dl_zoo import options
    from dl_zoo.data.image_folder import ImageFolder

    if isinstance(data, ImageFolder):
        return data.resize or data.image_size or 0
    target = f"{type(data).__module__}.{type(data).__qualname__}"
    for name in options.names("data"):
        stated = options.read("data", name)
        if stated["_target_"] == target:
            return int(stated["dims"]["image_size"])
    return int(data.image_size or data.dims["image_size"])  # data of one's own
