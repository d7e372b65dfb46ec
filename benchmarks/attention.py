"""Is a training step of our attention nets slower than torch's own layer, or than a loop written by hand?

    python benchmarks/attention.py [--device cuda] [--precision bf16] [--case layer] [--out FILE]
    python benchmarks/attention.py --bfloat16
    python benchmarks/attention.py --fused    our layer with queries, keys and values from one product, against three

- A layer's step, forward and backward: `EncoderLayer` against `torch.nn.TransformerEncoderLayer` of equal size.
- With --bfloat16: our nets' steps in bfloat16 ("mixed", as trainer.precision=bf16-mixed) against float32.
- `gpt_char`'s step, with cross entropy and AdamW: against the net that one would write in a file of one's own, with one
  dense layer for queries, keys and values and torch's fused attention.

Both sides run in one process on the same random inputs, in pairs back to back (see pairs.py).
Criterion: exit code 3 where the lower end of an interval exceeds 1.02, that is, where ours is slower beyond doubt.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pairs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.models.attention import Attention
from dl_zoo.models.gpt import GPT
from dl_zoo.models.transformer import EncoderLayer, Transformer

LAYERS = {  # width, heads, hidden, length, batch
    "characters": (128, 4, 512, 64, 12),
    "small": (256, 8, 512, 32, 32),
    "base": (512, 8, 2048, 64, 8),
}
FORMS = {"post": {}, "pre": {"norm": "pre"}, "post, dropout": {"dropout": 0.1}}
CHARACTERS: dict[str, Any] = {"vocab_size": 65, "context": 64, "width": 128, "heads": 4, "depth": 4}
BATCH = 12  # of gpt_char, and the customary one on a CPU
SMALL = {"vocab_size": 8260, "context": 0, "pad_id": 0, "width": 256, "heads": 8, "hidden": 512, "depth": 3}
NETS: list[tuple[str, dict[str, Any], int, int]] = [  # the experiments' nets: arguments, batch, length
    ("gpt_char_shakespeare", CHARACTERS, BATCH, 64),
    ("gpt_char_shakespeare_256", {**CHARACTERS, "width": 256, "context": 128, "dropout": 0.1}, BATCH, 128),
    ("transformer_multi30k", SMALL, 64, 16),
]


class Block(nn.Module):
    """GPT-2's, as it is commonly written by hand."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.fused, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.inner, self.outer = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.fused(self.first(x)).split(d, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.outer(F.gelu(self.inner(self.second(x)), approximate="tanh"))


class ByHand(nn.Module):
    def __init__(self, vocab_size: int, context: int, width: int, heads: int, depth: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, vocab_size, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return self.head(self.norm(self.blocks(self.tokens(x) + self.places(places))))


class FusedAttention(Attention):
    """Queries, keys and values of self-attention as one product over weights put together for it."""

    def forward(self, x: Tensor, *others: Any, **named: Any) -> Any:
        layers = (self.query, self.key, self.value)
        weight, bias = torch.cat([each.weight for each in layers]), torch.cat([each.bias for each in layers])
        query, key, value = (self.split(each) for each in F.linear(x, weight, bias).chunk(3, 2))
        mixed = self.attend(query, key, value, named.get("mask"), named.get("causal", False))
        return self.out(mixed.transpose(1, 2).flatten(2)), (key, value)


def layer_step(layer: nn.Module, x: Tensor, error: Tensor, autocast: Callable[[], Any]) -> Callable[[], None]:
    def step() -> None:
        layer.zero_grad()
        with autocast():
            output = layer(x)
        (output[0] if isinstance(output, tuple) else output).backward(error)

    return step


def net_step(net: nn.Module, inputs: tuple[Tensor, ...], y: Tensor, autocast: Callable[[], Any]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            output = net(*inputs)
            logits = output[0] if isinstance(output, tuple) else output
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()

    return step


def cases(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A name, our step and the other."""
    device = torch.device(args.device)

    def autocast() -> Any:
        return torch.autocast(device.type, torch.bfloat16) if args.precision == "bf16" else nullcontext()

    for size, (width, heads, hidden, length, batch) in LAYERS.items():
        for form, arguments in FORMS.items():
            torch.manual_seed(0)
            rate, norm = arguments.get("dropout", 0.0), arguments.get("norm", "post")
            ours = EncoderLayer(width, heads, hidden, dropout=rate, hidden_dropout=rate, norm=norm)
            if args.fused:
                other: nn.Module = EncoderLayer(width, heads, hidden, dropout=rate, hidden_dropout=rate, norm=norm)
                ours.attention = FusedAttention(width, heads, dropout=rate)
            else:
                torchs = nn.TransformerEncoderLayer
                other = torchs(width, heads, hidden, rate, batch_first=True, norm_first=norm == "pre")
            x = torch.randn(batch, length, width, device=device, requires_grad=True)  # as from the layer below
            steps = [layer_step(each.to(device), x, torch.randn_like(x), autocast) for each in (ours, other)]
            yield f"layer {size}, {form}", *steps
    if not args.fused:
        torch.manual_seed(0)
        x, y = torch.randint(0, 65, (2, BATCH, 64), device=device)
        nets = (GPT(**CHARACTERS, bias=False, dropout=0.0), ByHand(**CHARACTERS))
        yield "gpt_char against a loop by hand", *(net_step(each.to(device), (x,), y, autocast) for each in nets)


def halved(device: torch.device) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """A name, our net's step in bfloat16 and the same in float32."""
    for name, arguments, batch, length in NETS:
        torch.manual_seed(0)
        x, y = torch.randint(4, arguments["vocab_size"], (2, batch, length), device=device)
        net = Transformer(**arguments) if "hidden" in arguments else GPT(**arguments, bias=False)
        inputs = (x, y) if "hidden" in arguments else (x,)
        kinds = (partial(torch.autocast, device.type, torch.bfloat16), nullcontext)
        yield f"{name}, bfloat16 against float32", *(net_step(net.to(device), inputs, y, kind) for kind in kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    parser.add_argument("--fused", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5, help="steps a side and pair")
    parser.add_argument("--case", default="", help="only the cases whose name contains this")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = {}
    device = torch.device(args.device)
    print(pairs.HEADER)
    for case, ours, other in halved(device) if args.bfloat16 else cases(args):
        if args.case not in case:
            continue
        rows[case] = pairs.compare(ours, other, device, args.pairs, args.repeats)
        print(pairs.shown(case, rows[case]), flush=True)
    judged = not (args.fused or args.bfloat16)
    slower = [case for case, row in rows.items() if pairs.slower(row)]
    result = {
        **pairs.machine(device),
        "precision": args.precision,
        "pairs": args.pairs,
        "repeats": args.repeats,
        "cases": rows,
        "criterion": f"no interval's lower end above {pairs.LIMIT}" if judged else None,
        "holds": not slower if judged else None,
    }
    kind = "attention-fused" if args.fused else "attention-bfloat16" if args.bfloat16 else "attention"
    pairs.write(args.out or Path(f"results/benchmarks/{kind}-{args.device}.json"), result)
    if slower and judged:
        print(f"slower beyond doubt: {'; '.join(slower)}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
