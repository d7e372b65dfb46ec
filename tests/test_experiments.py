"""Every experiment, and every arm of a claim on CUDA, learns: on meta here, three real steps in the slow tier."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from dl_zoo import compose, run, trust
from dl_zoo.claims import card
from dl_zoo.options import names

EXPERIMENTS = {name: [f"experiment={name}"] for name in names("experiment") if name != "none"}
ARMS = {  # what claims run on CUDA, which nobody may have tried yet
    f"{id}, {arm}": card.read(id).overrides(arm, "cuda")
    for id in card.ids()
    if card.has_tier(card.stated(id), "cuda")
    for arm in card.stated(id)["arms"]
}
CASES = EXPERIMENTS | {name: words for name, words in ARMS.items() if len(words) > 1}
DIVERGES = {"deep_mlp_clipping": ["regularizer=[clip_norm]"]}  # on purpose, and what its claim mends it with
every_case = pytest.mark.parametrize("name", CASES)
ON_CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none", "pictures=false"]


def pretended(name: str, items: int, *overrides: str) -> tuple[DictConfig, Any]:
    """An experiment without its data: random items of their true shape stand for them; a folder has two classes."""
    own = ["data.path=pictures", "weights=null"] if "image_folder" in name else []
    for kind in ("bird", "fish") if own else ():
        Path("pictures", kind).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(f"pictures/{kind}/{number}.png")
    cfg = compose.compose([*CASES[name], *ON_CPU, *own, *overrides])
    data = trust.build(cfg.data)
    data.pretend(items)
    return compose.resolve(cfg, data.dims), data


@every_case
def test_it_can_be_built_and_differentiated(name: str) -> None:
    cfg, data = pretended(name, 2, "data.batch_size=2")
    with torch.device("meta"):
        task = run.build_task(cfg, run.build_net(cfg)).train()
    inputs, targets = next(iter(data.loader("train", **getattr(data, "transforms", dict)())))
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    on_meta = tuple(
        each if each.ndim == 1 and len(several) > 1 else each.to("meta") for each in several
    )  # lengths stay
    loss = task.measure((on_meta if len(several) > 1 else on_meta[0], targets.to("meta"))).loss
    assert loss.shape == ()
    if loss.requires_grad:  # threshold units are measured, not trained
        loss.backward()
        assert any(parameter.grad is not None for parameter in task.net.parameters())


@pytest.mark.slow
@pytest.mark.timeout(900)
@every_case
def test_it_takes_three_steps(name: str, tmp_path: Path) -> None:
    cfg, data = pretended(name, 6, "data.batch_size=2", *DIVERGES.get(name, []))
    if cfg.trainer.max_epochs == 0:
        pytest.skip("it measures and trains nothing")
    task = run.build_task(cfg, run.build_net(cfg))
    before = {key: value.clone() for key, value in task.net.named_parameters()}  # statistics of norms always move
    short = compose.with_values(cfg, {"trainer.max_epochs": 1, "trainer.max_steps": 3, "trainer.devices": 1})
    trainer = run.build_trainer(short, tmp_path, callbacks=run.build_callbacks(cfg)[1:], logger=False)
    data.trainer = trainer
    trainer.fit(task, data.train_dataloader(), data.val_dataloader())
    assert trainer.global_step == 3
    assert any(not torch.equal(before[key], value) for key, value in task.net.named_parameters())
    assert all(bool(parameter.isfinite().all()) for parameter in task.net.parameters())
