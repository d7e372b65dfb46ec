"""Every prediction of a pass over one split, for `predictions-<split>.csv`: paired tests and error analysis use it."""

import csv
import io
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class Predictions(pl.Callback):
    """Keeps target, prediction and confidence of each item that has a class, in the order of the split."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.classes = 0

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if outputs["output"].ndim != 2 or outputs["targets"].ndim != 1:
            return
        probabilities = outputs["output"].float().softmax(1)  # (B, K)
        confidence, predicted = probabilities.max(1)
        targets = outputs["targets"]
        of_target = probabilities.gather(1, targets[:, None].clamp(min=0)).squeeze(1)
        of_target = of_target.masked_fill(targets < 0, torch.nan)  # -100: no target
        self.classes = probabilities.shape[1]
        self.rows.append(torch.stack([targets, predicted, confidence, of_target], dim=1).double().cpu())

    def table(self) -> Tensor:
        """(N, 4) float64: target, prediction, confidence, probability of the target."""
        return torch.cat(self.rows) if self.rows else torch.empty(0, 4, dtype=torch.float64)

    def as_csv(self) -> str:
        """Columns: index, target, prediction, confidence, probability_of_target."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "target", "prediction", "confidence", "probability_of_target"])
        for index, (target, predicted, confidence, of_target) in enumerate(self.table().tolist()):
            writer.writerow([index, int(target), int(predicted), f"{confidence:.6g}", f"{of_target:.6g}"])
        return text.getvalue()
