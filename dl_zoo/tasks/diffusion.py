"""Diffusion: data are made noise step by step, and a net learns to take the noise out again.

Ho, Jain, Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv:2006.11239. The forward chain has nothing to
learn:

    q(x_t | x_(t-1)) = N(sqrt(1 - beta_t) x_(t-1), beta_t I)                                           (eq. 2)
    q(x_t | x_0) = N(sqrt(a_t) x_0, (1 - a_t) I),    a_t = prod (1 - beta_s), s = 1 .. t               (eq. 4)

Training (algorithm 1) draws t and eps; the loss is |eps - net(x_t, t)|^2 (eq. 14, without the weights of the bound).
Sampling (algorithm 2) goes back from x_T ~ N(0, I): with the net's guess of x_0,

    x_0' = (x_t - sqrt(1 - a_t) net(x_t, t)) / sqrt(a_t)
    x_s = sqrt(a_s) x_0' + sqrt(1 - a_s - v) net(x_t, t) + sqrt(v) z,    z ~ N(0, I)

for s = t - 1, written as in Song, Meng, Ermon, "Denoising Diffusion Implicit Models", 2021, arXiv:2010.02502, eq. 12.
v = (1 - a_s) / (1 - a_t) (1 - a_t / a_s) is the variance of q(x_s | x_t, x_0); v = 0 is DDIM, where x_0 is a function
of x_T. In this form s may be any earlier step. The first paper tries two variances of z (section 3.2): v, the best for
data that are one point, and beta_t, the best for N(0, I). In few steps v makes samples of narrow data too narrow.
"""

import logging
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Generator, Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks import generating, noise_schedules
from dl_zoo.tasks.task import Measured, Task

log = logging.getLogger("dl_zoo")
SAMPLERS = ("ancestral", "ddim")
VARIANCES = ("posterior", "beta")
THIRDS = ("early", "mid", "late")
SUMS = {*THIRDS, *(f"of_{name}" for name in THIRDS)}  # errors of a third of the steps, and how many items they are of
LEFT = 0.05  # of x_0 in x_T: what is sampled starts without it


class Diffusion(Task):
    """Batches `(inputs (B, *shape), anything)`; the net gives (B, *shape) of noisy items and their steps (B,), 1 .. T.

    In training steps and noise come of torch's global generator, whose state is in every checkpoint. In evaluation they
    are seeded by the batch's index, and the steps of a batch are spread evenly over 1 .. T, in random order.
    Metrics, as means over items and numbers: `loss`, the squared error of the noise, 1 for a net that says nothing; and
    that of the first, second and last third of the steps, `early`, `mid` and `late`.

    Args:
        shape: of an item.
        steps: T.
        schedule: linear or cosine (`noise_schedules`); `beta_first` and `beta_last` are of the linear one.
        sampler: ancestral (algorithm 2) or ddim.
        variance: of the ancestral sampler's noise, posterior (v) or beta.
        sampling_steps: of the way back, spread evenly over 1 .. T; None: all.
        features, samples, val_samples: of the measures of what is made up (`generating.quality`).
    """

    conditional = False

    def __init__(
        self,
        *args: Any,
        shape: Sequence[int],
        steps: int = 100,
        schedule: str = "linear",
        beta_first: float = 1e-4,
        beta_last: float = 0.02,
        sampler: str = "ancestral",
        variance: str = "posterior",
        sampling_steps: int | None = None,
        features: Any = None,
        samples: int = 2500,
        val_samples: int = 0,
        **settings: Any,
    ):
        super().__init__(*args, **settings)
        self.betas = noise_schedules.scheduled(schedule, steps, beta_first, beta_last)
        self.kept = list(accumulate((1 - beta for beta in self.betas), mul, initial=1.0))  # a_0 = 1, .., a_T
        back = steps if sampling_steps is None else sampling_steps
        if not isinstance(back, int) or not 1 <= back <= steps:
            raise UserError(f"task.sampling_steps={sampling_steps}: must be a whole number from 1 to {steps}")
        if sampler not in SAMPLERS:
            raise UserError(f"task.sampler={sampler}: must be one of {', '.join(SAMPLERS)}")
        if variance not in VARIANCES:
            raise UserError(f"task.variance={variance}: must be one of {', '.join(VARIANCES)}")
        self.shape, self.steps, self.sampler, self.variance = tuple(shape), steps, sampler, variance
        self.features, self.samples, self.val_samples = features, samples, val_samples
        self.way = [round(steps * i / back) for i in range(back + 1)]  # 0 .. T, the steps that samples visit
        self.register_buffer("signal", torch.tensor([a**0.5 for a in self.kept]), persistent=False)  # (T + 1,)
        self.register_buffer("spread", torch.tensor([(1 - a) ** 0.5 for a in self.kept]), persistent=False)
        self.batch_index = 0  # of the evaluation batch at hand
        if (left := self.kept[-1] ** 0.5) > LEFT:
            log.warning("after the last step %.0f %% of an item is left; samples start with none", 100 * left)

    signal: Tensor
    spread: Tensor

    def measure(self, batch: tuple[Tensor, Any]) -> Measured:
        items = batch[0]
        if items.shape[1:] != self.shape:
            made, given = self.shape, tuple(items.shape[1:])
            raise UserError(f"task=diffusion makes items of the shape {made}, and the data's have {given}")
        t, noise = self.draws(items)
        errors = (self.net(self.noised(items, t, noise), t) - noise).square().flatten(1).mean(1)  # (B,)
        shown = errors.detach()
        sums = {"loss": shown.sum()}
        for third, name in enumerate(THIRDS):
            inside = (t - 1) * len(THIRDS) // self.steps == third
            sums |= {name: (shown * inside).sum(), f"of_{name}": inside.sum()}
        return Measured(errors.mean(), sums, len(items), shown)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        """Of each third the mean over its own items; without those where a few batches met none."""
        found = {name: value for name, value in means.items() if name not in SUMS}
        return found | {name: means[name] / of for name in THIRDS if (of := means.get(f"of_{name}"))}

    def progress(self) -> dict[str, float]:
        return {name: value for name, value in super().progress().items() if name.split("/")[-1] not in SUMS}

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.batch_index = batch_idx
        return super()._evaluate(batch, batch_idx)

    def _log_evaluation(self, split: str) -> None:
        super()._log_evaluation(split)
        found = {f"{split}/{name}": value for name, value in generating.quality(self, split).items()}
        if not found:
            return
        self.log_dict(found, logger=False)
        if not self.trainer.sanity_checking:
            self._write(found, self.trainer.global_step)

    def example(self) -> tuple[Tensor, Tensor]:
        """One item and its step, as the net takes them."""
        device = next(self.net.parameters()).device
        return torch.zeros(1, *self.shape, device=device), torch.ones(1, device=device)

    # -- the way there

    def draws(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Steps (B,) int64 in 1 .. T, and standard normal noise like the items."""
        count = len(items)
        if self.training:
            return torch.randint(1, self.steps + 1, (count,), device=items.device), torch.randn_like(items)
        own = generating.own_noise((count, 1 + items[0].numel()), self.batch_index, items.device)
        order = own[:, 0].argsort()  # a permutation at random
        return 1 + order * self.steps // count, own[:, 1:].view_as(items)

    def noised(self, items: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of x_0, in one step (eq. 4)."""
        shape = -1, *[1] * (items.ndim - 1)
        return self.signal[t].view(shape) * items + self.spread[t].view(shape) * noise

    # -- the way back

    def noise(self, count: int, generator: Generator) -> Tensor:
        """All the noise of samples: x_T, and z for each later step but the last, (count, S, *shape); DDIM's S is 1."""
        draws = len(self.way) - 1 if self.sampler == "ancestral" else 1
        return torch.randn(count, draws, *self.shape, generator=generator).to(self.device)

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Items (count, *shape) made of `noise`; the net is in evaluation mode meanwhile."""
        return self.chain(noise, classes)[-1]

    @torch.no_grad()
    def chain(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """x_T, .., x_0 as `noise` makes them: (S + 1, count, *shape)."""
        if classes is not None:
            raise UserError("task=diffusion makes no items of a given class")
        with generating.still(self.net):
            xs = [noise[:, 0]]
            for taken, (s, t) in enumerate(zip(self.way[-2::-1], self.way[:0:-1], strict=True), start=1):
                z = noise[:, taken] if self.sampler == "ancestral" and s else None
                xs.append(self.back(xs[-1], t, s, z))
        return torch.stack(xs)

    def back(self, x: Tensor, t: int, s: int, z: Tensor | None) -> Tensor:
        """x_s of x_t, for an earlier step s, with fresh noise z or without any."""
        at, before = self.kept[t], self.kept[s]
        beta = 1 - at / before  # of all steps from s to t together
        posterior = 0.0 if z is None else (1 - before) / (1 - at) * beta
        eps = self.net(x, torch.full((len(x),), t, device=x.device))
        start = (x - (1 - at) ** 0.5 * eps) / at**0.5
        x = before**0.5 * start + (1 - before - posterior) ** 0.5 * eps
        return x if z is None else x + (posterior if self.variance == "posterior" else beta) ** 0.5 * z
