"""Pictures explained by latents: the evidence bound of a variational autoencoder, and tighter ones.

Kingma, Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114, section 2.2:

    log p(x) >= E log p(x | z) - KL(q(z | x) | p(z)) = - reconstruction - kl = elbo                          (eq. 3)

the divergence in closed form. `bound=iwae` trains on L_k (see `evidence`), k = `importance_samples`; `beta` weighs the
divergence in the loss (Higgins et al., "beta-VAE", ICLR 2017, eq. 4), never in the bound that is told.

Pixels are grey values in 0..1, explained by the cross entropy of a Bernoulli variable, as nearly everybody does: then
the bound is one on binary pictures averaged over how they might be drawn, plus their entropy, and no density of the
grey values. `binarize` draws the binary pictures (Burda et al. 2016, section 5), which are another, noisier task.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError
from dl_zoo.tasks import generating
from dl_zoo.tasks.evidence import (
    active,
    divergence,
    log_bernoulli,
    log_gaussian,
    log_mean,
    log_ratio,
    moments,
    of_evaluation,
    refuse,
)
from dl_zoo.tasks.task import Measured, Task

NUMBERS = 2**24  # of pixels that are held at once where the likelihood is asked for: 64 MiB


class VAE(Task):
    """Batches `(pictures (B, C, H, W), targets)`; targets go to a conditional net as classes, else nowhere.

    The net gives `(logits, mean, log_variance)`. In training noise comes of torch's global generator, in evaluation it
    is that of the batch's index. Metrics, in nats a picture: `loss`; `reconstruction` and `kl`, both costs; `elbo`,
    minus their sum; `iwae` where that is the bound; in evaluation `active_units`, latents whose posterior mean has a
    variance above 0.01 over the pictures, and in the test `nll`, minus L_k of `likelihood_samples`.

    Args:
        mean, std: by which pictures are normalised, one a channel; None: they have no scale of pixels.
        bound: "elbo" or "iwae".
        importance_samples: codes k a picture, over which the first bound is averaged.
        likelihood: "bernoulli" or "gaussian", of fixed `deviation`, around pixels, or where these have no scale,
            around the net's outputs.
        features, samples, val_samples: of the measures of what is made up (`generating.quality`).
    """

    def __init__(
        self,
        *arguments: Any,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        bound: str = "elbo",
        importance_samples: int = 1,
        beta: float = 1.0,
        likelihood: str = "bernoulli",
        deviation: float = 0.1,
        binarize: bool = False,
        likelihood_samples: int = 0,
        features: Any = None,
        samples: int = 2000,
        val_samples: int = 0,
        **settings: Any,
    ):
        super().__init__(*arguments, **settings)
        counts = {"importance_samples": (importance_samples, 1), "likelihood_samples": (likelihood_samples, 0)}
        refuse(counts | {"samples": (samples, 0), "val_samples": (val_samples, 0)}, bound, beta, likelihood, deviation)
        if mean is None and likelihood == "bernoulli":
            raise UserError(
                "task.likelihood=bernoulli: these data have no data.mean and data.std, so nothing says which of their "
                "values are black and white; task.likelihood=gaussian"
            )
        if binarize and likelihood == "gaussian":
            raise UserError("task.binarize=true: binary pixels are explained by task.likelihood=bernoulli")
        self.scale = mean, std
        self.bound, self.importance_samples, self.beta = bound, importance_samples, beta
        self.likelihood, self.deviation, self.binarize = likelihood, deviation, binarize
        self.likelihood_samples = likelihood_samples
        self.features, self.samples, self.val_samples = features, samples, val_samples
        self.batch_index: int | None = None  # of the evaluation batch at hand
        self._seen: dict[str, Tensor] = {}  # sums over an evaluation's pictures, (L,) and ()

    net: Any

    @property
    def conditional(self) -> bool:
        return bool(getattr(self.net, "conditional", False))

    # ---- the bound -------------------------------------------------------------------------------------------------

    def measure(self, batch: tuple[Tensor, Tensor]) -> Measured:
        x, classes = self.shown(batch[0]), self.told(batch[1])
        noise = self.draws(self.importance_samples, len(x))
        logits, mean, log_variance = self.net(x, classes, noise)
        log_p, kl = self.log_likelihood(x, logits), divergence(mean, log_variance)  # (K, B), (B,)
        reconstruction = -log_p.mean(0)
        terms = {"reconstruction": reconstruction, "kl": kl, "elbo": -reconstruction - kl}
        cost = reconstruction + self.beta * kl
        if self.bound == "iwae":
            terms["iwae"] = log_mean(log_p + log_ratio(noise, mean, log_variance))
            cost = -terms["iwae"]
        if self.batch_index is not None:
            self.remember(x, mean, classes)
        sums = {name: each.detach().sum() for name, each in ({"loss": cost} | terms).items()}
        return Measured(cost.mean(), sums, len(x), logits[0].detach())

    def shown(self, inputs: Tensor) -> Tensor:
        """What is explained: pixels in 0..1, or binary ones drawn by them."""
        x = generating.pixels(inputs, *self.scale)
        if not self.binarize:
            return x
        if self.training:
            return torch.bernoulli(x)
        return (torch.rand(x.shape, generator=of_evaluation("pixels", self.batch_index or 0)).to(x.device) < x).to(
            x.dtype
        )

    def told(self, targets: Tensor | None) -> Tensor | None:
        return targets if self.conditional else None

    def draws(self, samples: int, items: int) -> Tensor:
        shape = samples, items, self.net.latents
        if self.training:
            return torch.randn(shape, device=self.device)
        return generating.own_noise(shape, self.batch_index or 0, self.device)

    def log_likelihood(self, x: Tensor, logits: Tensor) -> Tensor:
        """log p(x | z): pictures (B, C, H, W), logits (..., B, C, H, W) -> (..., B)."""
        if self.likelihood == "bernoulli":
            return log_bernoulli(x, logits)
        return log_gaussian(x, self.pixels_of(logits), self.deviation)

    def pixels_of(self, logits: Tensor) -> Tensor:
        return logits if self.scale[0] is None else logits.sigmoid()

    def log_weights(self, x: Tensor, noise: Tensor, classes: Tensor | None) -> Tensor:
        """Logarithms of importance weights: pictures (B, C, H, W) in 0..1, noise (K, B, L) -> (K, B)."""
        logits, mean, log_variance = self.net(x, classes, noise)
        return self.log_likelihood(x, logits) + log_ratio(noise, mean, log_variance)

    @torch.no_grad()
    def likelihoods(self, x: Tensor, samples: int, classes: Tensor | None = None, index: int = 0) -> Tensor:
        """L_k of pictures (B, C, H, W) in 0..1, k = `samples`, which nears log p(x) as k grows: (B,).

        The codes are those of `index`, drawn a few at a time, so that memory does not grow with k.
        """
        own, total = of_evaluation("codes", index), torch.full((len(x),), -torch.inf, device=x.device)
        most = max(1, NUMBERS // x.numel())
        for start in range(0, samples, most):
            codes = range(min(most, samples - start))
            noise = torch.stack([torch.randn(len(x), self.net.latents, generator=own) for _ in codes])
            total = torch.logaddexp(total, self.log_weights(x, noise.to(x.device), classes).logsumexp(0))
        return total - math.log(samples)

    # ---- an evaluation ---------------------------------------------------------------------------------------------

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.batch_index = batch_idx
        try:
            return super()._evaluate(batch, batch_idx)
        finally:
            self.batch_index = None

    def remember(self, x: Tensor, mean: Tensor, classes: Tensor | None) -> None:
        """What cannot be told of one batch alone, and what only the test asks for."""
        sums = moments(mean.detach())
        if self.likelihood_samples and self.trainer.testing:
            found = self.likelihoods(x, self.likelihood_samples, classes, self.batch_index or 0)
            sums["nll"] = -found.double().sum()
        self._seen = {name: self._seen.get(name, 0) + each for name, each in sums.items()}

    def _log_evaluation(self, split: str) -> None:
        super()._log_evaluation(split)
        metrics = self._over_pictures() | generating.quality(self, split)
        metrics = {f"{split}/{name}": value for name, value in metrics.items()}
        self.log_dict(metrics, logger=False)
        if not self.trainer.sanity_checking:
            self._write(metrics, self.trainer.global_step)

    def _over_pictures(self) -> dict[str, float]:
        """`active_units`, and `nll` where it was asked for, over all ranks."""
        none = moments(torch.zeros(0, self.net.latents, device=self.device))  # a rank may have had no batch
        none |= {"nll": none["items"]} if self.likelihood_samples and self.trainer.testing else {}
        seen, self._seen = none | self._seen, {}
        flat = {f"{name}/{i}": float(v) for name, each in seen.items() for i, v in enumerate(each.view(-1))}
        sums = self._reduce(flat)
        found = {"active_units": float(active(sums))}
        return found | ({"nll": sums["nll/0"] / sums["items/0"]} if "nll/0" in sums else {})

    # ---- made up ---------------------------------------------------------------------------------------------------

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes (count, L) from the prior."""
        return torch.randn(count, self.net.latents, generator=generator).to(self.device)

    @torch.no_grad()
    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures (count, C, H, W) in 0..1: how likely each pixel is to be white, which no grey value is drawn from.

        UserError: a conditional net without `classes`, or classes for one that is not.
        """
        self._asked(classes)
        with generating.still(self.net):
            return self.pixels_of(self.net.decode(noise, classes))

    @torch.no_grad()
    def reconstruct(self, pictures: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures (B, C, H, W) in 0..1 from the means of their codes."""
        self._asked(classes)
        with generating.still(self.net):
            mean, _ = self.net.encode(pictures, classes)
            return self.pixels_of(self.net.decode(mean, classes))

    def _asked(self, classes: Tensor | None) -> None:
        if self.conditional and classes is None:
            raise UserError("this net is conditional: it must be told which classes to make")
        if not self.conditional and classes is not None:
            raise UserError("this net knows no classes; train it with model.conditional=true")
