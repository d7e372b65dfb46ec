"""Sentences into sentences: cross entropy of each next word, and BLEU of what the net writes by itself.

BLEU (Papineni, Roukos, Ward, Zhu 2002) is sacrebleu's (Post 2018, arXiv:1804.08771) of lines of text as the data give
them: tokenization, case and smoothing move it by points, so a number means nothing without its signature.
"""

import logging
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor

from dl_zoo.decoding import beam, greedy
from dl_zoo.errors import UserError
from dl_zoo.tasks.language_modelling import checked_share, logits_of, token_measures, with_perplexity
from dl_zoo.tasks.task import Measured, Task

log = logging.getLogger("dl_zoo")
SHOWN = 10  # translations kept as examples


class Translation(Task):
    """Batches `((source (B, S), target_in (B, T), lengths (B,)), targets (B, T))`, int64; target -100 does not count.

    Metrics, as means over target words: `loss` (nats), `ppl`, `acc` (fraction); with label
    smoothing `train/loss` holds it and `train/nll` does not. And `bleu`, 0 to 100, of the validation's first
    `bleu_items` sentences, translated greedily, and of the whole test, by beam search; for that the data module has
    `words`, the vocabulary, and `sources(split)` and `references(split)`, lines of text in the order of its loader.
    Without those there is no `bleu`. Where the vocabulary knows no capitals, references lose theirs, too: a net is
    asked for what it can write. An empty line's translation is empty. A translation ends `longer` words after the
    longest source of its batch, and where the net's context does.

    Attributes: `signature` says how BLEU was computed; `examples` are (source, reference, translation) of the last
    validation, up to ten.

    Args:
        label_smoothing: share of probability spread evenly over all words, in training alone (Szegedy et al. 2016,
            arXiv:1512.00567, section 7).
        bleu_items: 0 leaves out the validation's BLEU.
        beam_width: of the test's translations.
        length_penalty: alpha of `decoding.beam`.
        lowercase: BLEU does not see case.
    """

    def __init__(
        self,
        *args: Any,
        label_smoothing: float = 0.0,
        bleu_items: int = 500,
        beam_width: int = 4,
        length_penalty: float = 0.6,
        longer: int = 50,
        lowercase: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        numbers = {
            "bleu_items": bleu_items,
            "beam_width": beam_width,
            "length_penalty": length_penalty,
            "longer": longer,
        }
        for name, value in numbers.items():
            if value < (name == "beam_width"):
                raise UserError(f"task.{name}={value}: must be at least {int(name == 'beam_width')}")
        self.label_smoothing, self.bleu_items = checked_share(label_smoothing), bleu_items
        self.beam_width, self.length_penalty, self.longer = beam_width, length_penalty, longer
        self.lowercase, self.signature = lowercase, ""
        self.bleu = BLEU(lowercase=lowercase, force=True)  # force: no advice on tokenized lines
        self.examples: list[tuple[str, str, str]] = []
        self._written: list[list[str]] = []  # of this evaluation, batch by batch

    def measure(self, batch: tuple[Sequence[Tensor], Tensor]) -> Measured:
        inputs, targets = batch
        return token_measures(logits_of(self.net(*inputs)), targets, self.label_smoothing if self.training else 0.0)

    def derive(self, means: dict[str, float]) -> dict[str, float]:
        return with_perplexity(means)

    # Written batch by batch: at the epoch's end an average of the weights has already left the net.

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        missing = self.bleu_items - sum(map(len, self._written))  # with several processes, in each: in any order enough
        if missing > 0:
            self._write_down([each[:missing] for each in batch[0]], 1, 0.0)
        return super().validation_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        self._write_down(batch[0], self.beam_width, self.length_penalty)
        return super().test_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        lines = self._scored("val", self.bleu_items)
        self.examples = lines[:SHOWN] or self.examples

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._scored("test")

    def _write_down(self, inputs: Sequence[Tensor], width: int, alpha: float) -> None:
        data = getattr(self.trainer, "datamodule", None)
        words = getattr(data, "words", None)
        if words is None or not hasattr(data, "references"):
            return
        source, _, *lengths = inputs
        ends = {"bos": words.bos, "eos": words.eos, "limit": source.shape[1] + self.longer}
        if width == 1:
            ids = greedy(self.net, source, *lengths, **ends)
        else:
            ids = beam(self.net, source, *lengths, width=width, alpha=alpha, **ends)
        self._written.append([words.decode(each) for each in ids])

    def _scored(self, split: str, items: int | None = None) -> list[tuple[str, str, str]]:
        """Log BLEU of what was written down; (source, reference, translation) of each line."""
        mine, self._written = self._written, []
        written = in_order(self._of_all_ranks(mine))[:items]  # all join in, also who has no sentence
        if not written:
            return []
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        sources, references = (list(lines)[: len(written)] for lines in (data.sources(split), data.references(split)))
        references = in_its_case(data.words, references)
        written = [line if source.strip() else "" for source, line in zip(sources, written, strict=True)]
        metrics = {f"{split}/bleu": self.bleu.corpus_score(written, [references]).score}
        if not self.signature:
            self.signature = str(self.bleu.get_signature())
            log.info("BLEU is sacrebleu's: %s%s", self.signature, self._said_of_case(data))
        self.log_dict(metrics, logger=False)
        self._newest_evaluation |= metrics
        if not self.trainer.sanity_checking:
            self._write(metrics, self.trainer.global_step)
        return list(zip(sources, references, written, strict=True))

    def _said_of_case(self, data: Any) -> str:
        """Where the data are asked for another case than the vocabulary's, whose case decides."""
        folds = lowers(data.words)
        if self.lowercase or getattr(data, "lowercase", folds) == folds:
            return ""
        return f"; {'in lower case' if folds else 'with capitals'} as the vocabulary is, whatever data.lowercase says"

    def _of_all_ranks(self, mine: list[list[str]]) -> list[list[list[str]]]:
        if self.trainer.world_size == 1:
            return [mine]
        gathered: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(gathered, mine)
        return gathered


def lowers(words: Any) -> bool:
    return bool(getattr(words, "lowercase", False))


def in_its_case(words: Any, lines: list[str]) -> list[str]:
    """Lines as this vocabulary can write them."""
    return [line.lower() for line in lines] if lowers(words) else lines


def in_order(ranks: Iterable[list[list[str]]]) -> list[str]:
    """Lines as they stand in the file, where each rank has every n-th line of each batch, from its own number on.

    >>> in_order([[["a", "c"], ["e", "g"]], [["b", "d"], ["f"]]])
    ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    """
    batches = zip_longest(*ranks, fillvalue=())
    return [line for batch in batches for line in chain(*zip_longest(*batch)) if line is not None]
