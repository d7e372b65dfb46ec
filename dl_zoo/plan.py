"""What a run is about to do, on one screen: the layers with shapes and parameters, the data, the device."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

MOST = 40  # rows of layers that fit a screen
Row = tuple[str, str, str, Any]  # name, kind, output, parameters


def plan(cfg: DictConfig, task: Any, data: Any, trainer: pl.Trainer, where: Path) -> str:
    inputs, _ = next(iter(data.train_dataloader()))
    device = trainer.strategy.root_device
    count = sum(p.numel() for p in task.net.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in task.net.parameters() if not p.requires_grad)
    sizes = ", ".join(f"{n:,} {split}" for split, n in data.sizes.items())
    epochs = trainer.max_epochs is not None and trainer.max_epochs >= 0
    steps = f"{trainer.max_epochs} epochs" if epochs else f"{trainer.max_steps} steps"
    lines = [
        f"{cfg.name}  ({type(task).__name__.lower()}, seed {cfg.seed})",
        "",
        *layer_table(task.net, net_inputs(task, inputs)),
        "",
        f"parameters   {count:,} trainable" + (f", {frozen:,} frozen" if frozen else ""),
        f"data         {sizes}; batches of {cfg.data.batch_size}",
        f"optimizer    {_call(cfg.optimizer)}" + (f", {_call(cfg.scheduler)}" if cfg.scheduler else ""),
        *_rates(task, cfg),
        f"training     {steps} on {device_words(device)}, {trainer.precision}",
        f"run folder   {where}",
    ]
    return "\n".join([*lines, ""])


def net_inputs(task: Any, inputs: Any) -> Any:
    """What the task's net takes where these are a batch's inputs: themselves, or an example that the task knows."""
    return task.example() if hasattr(task, "example") else inputs


def layer_table(net: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> list[str]:
    """`layer_rows` as a table, a line each."""
    found = layer_rows(net, inputs)
    rows = [("layer", "kind", "output", "parameters"), *((a, b, c, f"{d:,}") for a, b, c, d in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows]


def layer_rows(net: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> list[Row]:
    """One row a layer, in the order of use: name, kind, output shape for one item, parameters.

    Of a net with more than `MOST` layers, one row a block.
    """
    rows: list[Row] = []
    hooks = []
    for name, module in net.named_modules():
        own = (
            [] if hasattr(module, "parametrizations") else list(module.children())
        )  # such as a weight's length and direction
        if name and not own and ".parametrizations" not in name:
            hooks.append(module.register_forward_hook(_recorder(rows, name)))
    device = next((tensor.device for tensor in chain(net.parameters(), net.buffers())), torch.device("cpu"))
    several = inputs if isinstance(inputs, tuple | list) else [inputs]
    one = [x[:1] if x.ndim == 1 else x[:1].to(device) for x in several]  # lengths stay on the CPU
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(*one)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    depth = max((name.count(".") for name, *_ in rows), default=0)
    while len(rows) > MOST and depth > 0:
        rows, depth = _folded(net, rows, depth), depth - 1
    return rows


def _folded(net: nn.Module, rows: list[Row], depth: int) -> list[Row]:
    """Rows whose names agree in the first `depth` parts as one: the block's kind, last output, all its parameters."""
    blocks: dict[str, Row] = {}
    for name, kind, output, count in rows:
        block = ".".join(name.split(".")[:depth])
        before = blocks.get(block, (block, kind, output, 0))
        own = kind if block == name else type(net.get_submodule(block)).__name__
        blocks[block] = (block, own, output, before[3] + count)
    return list(blocks.values())


def _rates(task: Any, cfg: DictConfig) -> list[str]:
    """Where rates differ by place: each with the first of the modules that have it, from the highest."""
    factors = getattr(task.make_optimizer, "of_names", None)
    if factors is None:
        return []
    learning = [name for name, parameter in task.net.named_parameters() if parameter.requires_grad]
    first: dict[float, str] = {}
    of_names = factors(task.net)
    for name in reversed(learning):
        first[of_names[name]] = name.rpartition(".")[0] or name
    told = [f"{cfg.optimizer.lr * factor:.3g} from {first[factor]}" for factor in sorted(first, reverse=True)]
    return [f"rates        {', '.join(told)}"]


def _recorder(rows: list[Row], name: str) -> Any:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output  # of recurrent layers, without the state
        shape = " x ".join(map(str, output.shape[1:])) if isinstance(output, Tensor) else "..."
        count = sum(p.numel() for p in module.parameters())
        if all(name != before for before, *_ in rows):  # a recurrent net calls it again and again
            rows.append((name, type(module).__name__.removeprefix("Parametrized"), shape, count))

    return record


def device_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _call(node: DictConfig) -> str:
    """`SGD(lr=0.1, momentum=0.9)`"""
    stated = {str(k): v for k, v in node.items() if not str(k).startswith("_") and v != {}}
    inner = ", ".join(f"{k}={v}" for k, v in stated.items())
    return f"{str(node._target_).rsplit('.', 1)[-1]}({inner})"
