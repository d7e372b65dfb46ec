"""What a translator loses on long sentences: a sentence that is squeezed into one vector of fixed size should suffer.

Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", 2015, arXiv:1409.0473,
section 5.2.1 and figure 2: without attention BLEU falls as sentences grow, with it hardly.
"""

from typing import Any

import torch
import torch.nn.functional as F

from dl_zoo.errors import UserError

IGNORED = -100  # a target that does not count


@torch.no_grad()
def long_sentences(task: Any, data: Any, *, tokens: int = 20) -> dict[str, float]:
    """Cross entropy on test sentences whose source has up to `tokens` tokens, without <eos>, and on those with more.

        long_sentences/short, long   nats a target token, each behind the reference's tokens before it
        long_sentences/rise          long - short
        long_sentences/share         of the sentences that are long, a fraction

    Raises:
        UserError: data that are no pairs of sentences, or none of one kind.
    """
    device = next(task.net.parameters()).device
    nats, counts, sentences = [0.0, 0.0], [0, 0], [0, 0]  # of short, of long
    for inputs, targets in data.loader("test"):
        if not isinstance(inputs, tuple | list) or len(inputs) != 3:
            raise UserError("it reads pairs of sentences, which these data are not; take data=multi30k_de_en")
        source, target_in, lengths = inputs
        answer = task.net(source.to(device), target_in.to(device), lengths)
        logits = answer[0] if isinstance(answer, tuple) else answer  # (B, T, V)
        each = F.cross_entropy(
            logits.transpose(1, 2).float(), targets.to(device), ignore_index=IGNORED, reduction="none"
        )
        each, wanted = each.sum(1).cpu(), (targets != IGNORED).sum(1).cpu()  # (B,)
        is_long = lengths - 1 > tokens
        for kind, mask in enumerate((~is_long, is_long)):
            nats[kind] += float(each[mask].sum())
            counts[kind] += int(wanted[mask].sum())
            sentences[kind] += int(mask.sum())
    if not all(counts):
        raise UserError(f"tokens={tokens}: all test sentences are on one side of it")
    short, long = (total / count for total, count in zip(nats, counts, strict=True))
    found = {"short": short, "long": long, "rise": long - short, "share": sentences[1] / sum(sentences)}
    return {f"long_sentences/{name}": value for name, value in found.items()}
