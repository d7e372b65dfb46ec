"""Two nets that play: one makes items up, the other tells them from real ones. Losses and papers: `adversarial`.

A batch is one step of the discriminator (Goodfellow et al. 2014, algorithm 1), on the real items and as many fakes;
every `critic_steps`-th is also one of the generator, on fresh noise. So a run's steps are its batches, as elsewhere:
Lightning counts the discriminator's, and the generator's goes to the strategy itself, past the counter.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from dl_zoo.errors import UserError
from dl_zoo.tasks import adversarial, generating
from dl_zoo.tasks.task import Measured, Task

SURE = 0.999  # mean probability of being right, beyond which the discriminator is saturated
PENALTY = 10.0  # Gulrajani et al. 2017, section 4
TWO_RANKS = "trainer.strategy=ddp_find_unused_parameters_true"


class Saturated(FloatingPointError):
    hint = "try task.r1=10, task.label_smoothing=0.1 or a lower optimizer.lr; task.patience=0 goes on regardless"


class GAN(Task):
    """Batches `(items, anything)`; the net owns `generator`, `discriminator` and `noise`, how many numbers make one.

    Pictures are brought to -1..1 by the `mean` and `std` that they were normalised with; without those, items stay as
    they are. Metrics: `d_real` and `d_fake`, the mean of D on real items and on fakes; `value`, V(D, G) in nats; with
    `loss="wasserstein"` D is the critic's own number and the value an estimate of the distance. `d_loss`, `g_loss`,
    and their sum `loss`, without penalties, are of the same fakes, before either step.

    Args:
        loss: minimax, non_saturating or wasserstein.
        critic_steps: steps of the discriminator for one of the generator; each sees a batch of its own.
        gradient_penalty: weight, for slopes of 1; None: 10 with wasserstein, else 0.
        r1: weight of the penalty on slopes at real items.
        label_smoothing: real items' target is so much below 1.
        patience: steps for which the discriminator may be right with 0.999 before the run ends as diverged; 0: any.
        features, samples, val_samples: of `generating.quality`: what measures, how many items at test, and after each
            epoch. With `val_samples=0` nothing is measured in validation, so the tested checkpoint is the last.
    """

    net: Any
    conditional = False

    def __init__(
        self,
        *args: Any,
        loss: str = "non_saturating",
        critic_steps: int = 1,
        gradient_penalty: float | None = None,
        r1: float = 0.0,
        label_smoothing: float = 0.0,
        patience: int = 1000,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        features: nn.Module | None = None,
        samples: int = 2000,
        val_samples: int = 0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        if loss not in adversarial.LOSSES:
            raise UserError(f"task.loss={loss}: must be one of {', '.join(adversarial.LOSSES)}")
        if not isinstance(critic_steps, int) or critic_steps < 1:
            raise UserError(f"task.critic_steps={critic_steps}: must be a whole number of at least 1")
        weight = gradient_penalty if gradient_penalty is not None else PENALTY * (loss == "wasserstein")
        for key, number in {"gradient_penalty": weight, "r1": r1, "patience": patience}.items():
            if not number >= 0:
                raise UserError(f"task.{key}={number}: must be at least 0")
        if not 0 <= label_smoothing < 0.5 or (label_smoothing and loss == "wasserstein"):
            mend = "0, since a critic has no targets" if loss == "wasserstein" else "at least 0 and below 0.5"
            raise UserError(f"task.label_smoothing={label_smoothing}: must be {mend}")
        self.loss, self.critic_steps, self.label_smoothing = loss, critic_steps, label_smoothing
        self.gradient_penalty, self.r1, self.patience = float(weight), r1, patience
        self.mean, self.std, self.samples, self.val_samples = mean, std, samples, val_samples
        self.of_pictures = mean is not None and std is not None
        vars(self)["features"] = features  # no part of what is trained and saved
        self.saturated = 0  # steps
        self.rank, self.ranks = 0, 1
        self.batch_index = 0  # of the evaluation batch at hand

    # ---- the game ----------------------------------------------------------------------------------------------------

    def measure(self, batch: tuple[Tensor, Any]) -> Measured:
        """Both losses, without penalties, on real items and as many fakes."""
        real = self.seen(batch[0])
        return self._measured(self.net.discriminator(real), self.net.discriminator(self._fakes(real)))

    def _measured(self, real: Tensor, fake: Tensor) -> Measured:
        """From logits (B,) of real items and of fakes."""
        real, fake, count = real.float(), fake.float(), len(real)
        d_loss = adversarial.discriminator_loss(real, fake, self.loss, self.label_smoothing)
        g_loss = adversarial.generator_loss(fake, self.loss)
        of_real, of_fake = (adversarial.judged(each, self.loss).mean() for each in (real, fake))
        means = {"loss": d_loss + g_loss, "d_loss": d_loss, "g_loss": g_loss, "d_real": of_real, "d_fake": of_fake}
        means["value"] = adversarial.value(real, fake, self.loss)
        sums = {name: mean.detach() * count for name, mean in means.items()}
        return Measured(d_loss, sums, count, real.detach())

    def objective(self, batch: Any) -> Tensor:
        """What both players differentiate, for who wants to know its cost."""
        real = self.seen(batch[0])
        return self._of_discriminator(real)[0] + self.generator_objective(real)

    def _of_discriminator(self, real: Tensor) -> tuple[Tensor, Measured]:
        net = self.net.discriminator
        with torch.no_grad():
            fake = self._fakes(real)
        measured = self._measured(net(real), net(fake))
        loss = measured.loss
        if self.gradient_penalty:
            share = torch.rand(len(real), device=real.device)
            penalty = adversarial.gradient_penalty(net, real, fake, share)
            loss = loss + self.gradient_penalty * penalty
            measured.sums["gradient_penalty"] = penalty.detach() * measured.items
        if self.r1:
            penalty = adversarial.r1(net, real)
            loss = loss + self.r1 * penalty
            measured.sums["r1"] = penalty.detach() * measured.items
        return loss, measured

    def generator_objective(self, real: Tensor) -> Tensor:
        """The generator's loss on as many fakes as there are real items."""
        return adversarial.generator_loss(self.net.discriminator(self._fakes(real)).float(), self.loss)

    def seen(self, items: Tensor) -> Tensor:
        """Items as the net knows them."""
        return 2 * generating.pixels(items, self.mean, self.std) - 1 if self.of_pictures else items

    def _fakes(self, real: Tensor) -> Tensor:
        """As many as there are real items. UserError where the net makes others."""
        shape = (self.ranks * len(real), self.net.noise)
        if self.training:
            noise = torch.randn(shape, device=real.device)
        else:
            noise = generating.own_noise(shape, self.batch_index, real.device)
        fakes = self.net.generator(noise[self.rank :: self.ranks])
        if fakes.shape != real.shape:
            made, wanted = (" x ".join(map(str, each.shape[1:])) for each in (fakes, real))
            raise UserError(f"this net makes items of {made}, and the data's are {wanted}")
        return fakes

    # ---- Lightning's hooks -------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        self.rank, self.ranks = self.trainer.global_rank, self.trainer.world_size
        if stage == "fit" and self.ranks > 1 and not getattr(strategy, "_ddp_kwargs", {}).get("find_unused_parameters"):
            raise UserError(f"task=gan: on several devices use {TWO_RANKS}")

    def configure_optimizers(self) -> Any:
        if self.trainer.max_epochs == 0:
            return None
        players = (self.net.discriminator, self.net.generator)
        optimizers = [self.optimizer_over([p for p in each.parameters() if p.requires_grad]) for each in players]
        if self.make_scheduler is None:
            return optimizers
        steps = self._total_steps()
        lengths = (steps, max(1, steps // self.critic_steps))
        return optimizers, [self.schedule_of(each, n) for each, n in zip(optimizers, lengths, strict=True)]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        real, step = self.seen(batch[0]), self.trainer.global_step + 1
        discriminator, generator = self.optimizers()  # type: ignore[attr-defined]
        seen: list[Measured] = []

        def judge() -> Tensor:
            loss, measured = self._of_discriminator(real)
            seen.append(measured)
            return loss

        with self.toggled_optimizer(discriminator):
            discriminator.step(closure=partial(self._descend, discriminator.optimizer, judge, seen))
        its_turn = step % self.critic_steps == 0
        if its_turn:
            descend = partial(self._descend, generator.optimizer, partial(self.generator_objective, real))
            with self.toggled_optimizer(generator):
                self.trainer.strategy.optimizer_step(generator.optimizer, descend)
        for schedule, due in zip(self.trainer.lr_scheduler_configs, (True, its_turn), strict=False):
            if due:
                schedule.scheduler.step()  # type: ignore[call-arg]
        self._pending = (step, batch_idx, seen[0].sums, seen[0].items)
        return seen[0].loss.detach()

    def _descend(self, optimizer: Optimizer, loss_of: Callable[[], Tensor], seen: Sequence[Measured] = ()) -> Tensor:
        """A closure of an optimizer's step. Regularizers' penalties are part of both games, each moves its own net."""
        optimizer.zero_grad()
        loss = loss_of()
        for name, penalty in self.penalties.items():
            value = penalty(self.net)
            loss = loss + value
            for measured in seen:
                measured.sums[name] = value.detach() * measured.items
        self.manual_backward(loss)
        return loss.detach()

    # ---- measures ----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return super().validation_step(batch, batch_idx) if self.val_samples else {}

    def _evaluate(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self.batch_index = batch_idx
        return super()._evaluate(batch, batch_idx)

    def _log_evaluation(self, split: str) -> None:
        if split == "val" and not self.val_samples:
            return
        super()._log_evaluation(split)
        found = {f"{split}/{name}": each for name, each in generating.quality(self, split).items()}
        self.log_dict(found, logger=False)
        if not self.trainer.sanity_checking:
            self._write(found, self.trainer.global_step)

    def _log_window(self) -> None:
        steps = len(self._window)
        super()._log_window()
        judged = self._newest_train
        sure = self.loss != "wasserstein" and min(judged.get("d_real", 0), 1 - judged.get("d_fake", 1)) > SURE
        self.saturated = self.saturated + steps if sure else 0
        if self.patience and self.saturated >= self.patience:
            raise Saturated(f"the discriminator has been saturated for {self.saturated} steps, so nothing is learned")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["task"]["saturated"] = self.saturated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.saturated = checkpoint.get("task", {}).get("saturated", 0)

    def example(self) -> Tensor:
        """What the net takes, which is no batch's inputs: noise for one item."""
        return torch.zeros(1, self.net.noise)

    # ---- making things up --------------------------------------------------------------------------------------------

    def noise(self, count: int, generator: Generator) -> Tensor:
        """(count, noise), standard normal."""
        return torch.randn(count, self.net.noise, generator=generator).to(self.device)

    @torch.no_grad()
    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Pictures (count, C, H, W) in 0..1, or points, from noise (count, ...)."""
        if classes is not None:
            raise UserError("this net makes things up of no class that one could ask for")
        training = self.net.training
        try:
            made = self.net.eval().generator(noise)
        finally:
            self.net.train(training)
        return (made + 1) / 2 if self.of_pictures else made
