"""Do our nets compute what others' of the same architecture compute, outputs and gradients, with the same weights?

    python benchmarks/parity.py [--only gpt2 resnet50 ...]    cases whose name contains one of these; others are kept

Each case draws weights for their net, so that nothing is left at 0 or 1, and carries them into ours as a user would:
saved to a file and read by `create_model(..., weights=FILE)`, without a map. Both then see the same random inputs, in
evaluation mode, in float32 (a few in float64), on one thread of a CPU; gradients are those of the sum of all outputs
times random numbers, of BERT without those at padding. torch's own layers come in no file that `weights=` reads; their
names are translated here.

- outputs: the largest difference as a part of the largest output.
- gradients: of every parameter the largest difference as a part of its largest gradient, and the largest of these. A
  bias of keys has none but rounding, since softmax drops it, and is measured by its weights' largest.

What `from_scratch` writes out is given its tensors directly, and goes back by its own gradients (written_out.py).

Nets too large for a quick pass are built on the `meta` device: every tensor must find its place, by name and shape.
Criterion: exit code 3 where a difference exceeds 1e-4 (float64: 1e-10), or a tensor finds no place.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pairs
import torch
import torch.nn.functional as F
import torchvision
import written_out
from torch import Tensor, nn

from dl_zoo import create_model, options
from dl_zoo.errors import UserError
from dl_zoo.from_scratch import attention as by_hand
from dl_zoo.matching import match
from dl_zoo.models.attention import Positions
from dl_zoo.models.transformer import EncoderLayer, Transformer
from dl_zoo.pretrained import officially
from dl_zoo.records import current_commit

OUT = Path("results/benchmarks/parity.json")
LIMITS = {torch.float32: 1e-4, torch.float64: 1e-10}
LARGE = ("gpt2_medium", "gpt2_large", "gpt2_xl", "bert_large", "vit_large")  # names and shapes only
State = dict[str, Tensor]


# ---- their nets: of a model's name and sizes, as our YAML states them ---------------------------------------------


def torchvisions_name(model: str) -> str:
    return str(options.card(model)["weights"]).partition(":")[2] or model.removesuffix("_tv")


def torchvisions(model: str, **_: Any) -> nn.Module:
    name = torchvisions_name(model)
    return torchvision.models.get_model(name, **({"init_weights": False} if name == "googlenet" else {}))


HUGGING_FACE = {  # the first word of ours: their configuration and net
    "gpt1": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel"),
    "bert": ("BertConfig", "BertForMaskedLM"),
    "vit": ("ViTConfig", "ViTForImageClassification"),
}
SIZES = {  # our argument: theirs
    "vocab_size": "vocab_size",
    "context": "max_position_embeddings",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "depth": "num_hidden_layers",
    "image_size": "image_size",
    "patch": "patch_size",
    "num_classes": "num_labels",
}


def hugging_faces(model: str, **sizes: Any) -> nn.Module:
    import transformers

    config, net = HUGGING_FACE[model.partition("_")[0]]
    how = {theirs: sizes[ours] for ours, theirs in SIZES.items() if isinstance(sizes.get(ours), int)}
    how |= {"intermediate_size": 4 * sizes["width"], "bos_token_id": 0, "eos_token_id": 0}
    return getattr(transformers, net)(getattr(transformers, config)(**how))


class TorchTransformer(nn.Module):
    """`torch.nn.Transformer` between an embedding with sinusoids and the same embedding as output layer."""

    def __init__(self, model: str, norm: str, vocab_size: int, width: int, heads: int, hidden: int, **others: Any):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocab_size, width), Positions("sinusoid", width)
        how: dict[str, Any] = {"batch_first": True, "norm_first": norm == "pre"}
        self.body = nn.Transformer(width, heads, others["depth"], others["depth"], hidden, **how)
        if norm == "post":  # torch's has a last norm in either form; the paper's has none
            self.body.encoder.norm = self.body.decoder.norm = None

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        hidden, table, later = source == 0, self.embedding.weight, ~by_hand.causal(target.shape[1])
        x, y = (self.positions(table[each] * table.shape[1] ** 0.5) for each in (source, target))
        return self.body(x, y, tgt_mask=later, src_key_padding_mask=hidden, memory_key_padding_mask=hidden) @ table.T


def torchs_layer(model: str, norm: str, width: int, heads: int, hidden: int) -> nn.Module:
    return nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True, norm_first=norm == "pre")


class Attended(nn.Module):
    """An attention over queries, keys and values that are its parameters."""

    def __init__(self, attention: Callable[..., Tensor]):
        super().__init__()
        self.attention = attention
        self.q, self.k, self.v = (nn.Parameter(torch.empty(12, 7, 8)) for _ in "qkv")

    def forward(self, mask: Tensor) -> Tensor:
        return self.attention(self.q, self.k, self.v, mask)


# ---- what goes in and what comes out -----------------------------------------------------------------------------


def pictures(image_size: int = 224, **_: Any) -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, image_size, image_size),)


def text(vocab_size: int, context: int = 64, **_: Any) -> tuple[Tensor, ...]:
    return (torch.randint(1, vocab_size, (2, min(context, 64))),)


def padded(**sizes: Any) -> tuple[Tensor, ...]:
    """Two texts, the second a shorter one, and beside them their segments, or two others."""
    (tokens,) = text(**sizes)
    tokens[1, -tokens.shape[1] // 3 :] = 0
    return tokens, tokens % 2 if "segments" in sizes else tokens.flip(1)


def states(width: int, **_: Any) -> tuple[Tensor, ...]:
    return (torch.randn(2, 9, width),)


def mask() -> tuple[Tensor, ...]:
    return (by_hand.causal(7),)


def answer(net: nn.Module, *inputs: Tensor) -> Tensor:
    outputs = net(*inputs)
    outputs = getattr(outputs, "logits", outputs)
    return outputs[0] if isinstance(outputs, tuple) else outputs


def at_words(net: nn.Module, tokens: Tensor, segments: Tensor) -> Tensor:
    """Of BERT, in either form: nobody asks for the outputs at padding."""
    inputs = (tokens, segments) if hasattr(net, "adopted") else (tokens, tokens != 0, segments)
    return answer(net, *inputs)[tokens != 0]


def all_heads(net: Any, x: Tensor) -> Tensor:
    """The auxiliary logits beside the others. Theirs look at the mode of the whole; that of its layers stays."""
    if hasattr(net, "with_auxiliary"):
        logits, auxiliary = net.with_auxiliary(x)
        return torch.cat([logits, *auxiliary])
    net.training = True
    found = net(x)
    return torch.cat([found.logits, found.aux_logits1, found.aux_logits2])


# ---- the cases ---------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    model: str
    other: str
    theirs: Callable[..., nn.Module]
    inputs: Callable[..., tuple[Tensor, ...]]
    arguments: dict[str, Any]  # of ours beside the card's
    asked: Callable[..., Tensor] = answer  # of a net and its inputs
    ours: Callable[..., nn.Module] | None = None  # where there is no file to read
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        stated = [f"{key}={value}" for key, value in self.arguments.items()]
        return " ".join([self.model, *stated, *(["in float64"] if self.dtype is torch.float64 else [])])

    @property
    def sizes(self) -> dict[str, Any]:
        known = self.model in options.names("model")
        stated = {**options.read("model", self.model), **options.card(self.model)["dims"]} if known else {}
        return stated | self.arguments


def hugging_face(model: str, inputs: Callable[..., tuple[Tensor, ...]], **how: Any) -> Case:
    other = f"Hugging Face's {HUGGING_FACE[model.partition('_')[0]][1]}"
    return Case(model, other, hugging_faces, inputs, how, at_words if inputs is padded else answer)


def torchs(other: str, model: str, theirs: Any, inputs: Any, ours: Callable[..., nn.Module], **how: Any) -> list[Case]:
    """Both forms of norms; and ours is made without a file."""
    return [Case(model, other, theirs, inputs, {"norm": norm, **how}, ours=ours) for norm in ("post", "pre")]


def written(each: written_out.Pair) -> Case:
    """Both sides hold what goes in; ours goes back by the gradients that are written out."""
    name = f"from_scratch.{each.name}"
    return Case(name, each.other, lambda *_: each.theirs(), tuple, {}, ours=each.ours, dtype=torch.float64)


SMALL = {"width": 16, "heads": 4, "depth": 2}
WHOLE = {"vocab_size": 19, "hidden": 24, **SMALL}
LAYER = {"width": 16, "heads": 4, "hidden": 24}
SDPA = "torch's scaled_dot_product_attention"
FUSED, WRITTEN_OUT = (lambda *_, f=f: Attended(f) for f in (F.scaled_dot_product_attention, by_hand.attention))
EVERY = [
    *(Case(each, f"torchvision's {torchvisions_name(each)}", torchvisions, pictures, {}) for each in officially()),
    Case("googlenet_tv", "torchvision's googlenet, all heads", torchvisions, pictures, {}, all_heads),
    *(hugging_face(each, text, vocab_size=19, context=12, **SMALL) for each in ("gpt1", "gpt2")),
    *(hugging_face(each, text) for each in ("gpt1", "gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl")),
    hugging_face("gpt1", text)._replace(dtype=torch.float64),
    *(hugging_face(each, padded) for each in ("bert_small", "bert_base", "bert_large")),
    *(hugging_face(each, pictures, eps=1e-12) for each in ("vit_tiny", "vit_base", "vit_large")),
    *torchs("torch.nn.Transformer", "Transformer", TorchTransformer, padded, Transformer, **WHOLE),
    *torchs("torch.nn.TransformerEncoderLayer", "EncoderLayer", torchs_layer, states, EncoderLayer, **LAYER),
    Case("from_scratch.attention", SDPA, FUSED, mask, {}, ours=WRITTEN_OUT, dtype=torch.float64),
    *(written(each) for each in written_out.PAIRS),
]
CASES = {f"{case.name} against {case.other}": case for case in EVERY}


# ---- the measure -------------------------------------------------------------------------------------------------


@torch.no_grad()
def scrambled(net: nn.Module) -> nn.Module:
    """He's convolutions; norms and variances around 1; vectors of tokens and positions of unit variance; biases of 0.1.

    Dense weights are half of LeCun's: in deep nets tokens would become alike by larger ones, and the gradients of
    queries and keys cancel, so that rounding were compared.
    """
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            inputs = value[0].numel()
            spreads = {1: 0.1, 3: 1.0, 4: (2 / inputs) ** 0.5}  # by dimensions; three have a ViT's positions
            value.normal_(0, spreads.get(value.ndim, 0.5 / inputs**0.5))
            if value.ndim == 1 and name.endswith(("weight", "running_var")):
                value.add_(1).abs_()
    for layer in net.modules():
        if isinstance(layer, nn.Embedding):
            layer.weight.normal_()
    return net


TORCHS = {  # the names of `torch.nn.Transformer` and its layers, and ours, replaced in this order
    "body.": "",
    "layers.": "",
    "self_attn.": "attention.",
    "multihead_attn.": "cross.",
    "out_proj.": "out.",
    "linear1.": "feed.inner.",
    "linear2.": "feed.outer.",
    "norm1.": "attention_norm.",
    "norm3.": "feed_norm.",
    "coder.norm.": "coder_norm.",
}


def in_our_names(case: Case, ours: Any, state: State) -> State:
    """Their weights or gradients, under our names and in our shapes."""
    if case.ours is None:
        return ours.adopted(state)[1] if hasattr(ours, "adopted") else state
    found: State = {}
    for key, value in state.items():
        name = key
        for old, new in {**TORCHS, "norm2.": "cross_norm." if "decoder" in key else "feed_norm."}.items():
            name = name.replace(old, new)
        names = [name.replace("in_proj_", f"{part}.") for part in ("query", "key", "value")]
        found |= zip(names, value.chunk(3), strict=True) if "in_proj_" in name else [(name, value)]
    return found


def both(case: Case) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs, of the same weights."""
    torch.manual_seed(0)
    theirs: Any = scrambled(case.theirs(case.model, **case.sizes))
    if case.ours:
        ours = case.ours(**case.arguments)
        ours.load_state_dict(in_our_names(case, ours, theirs.state_dict()))
        return ours, theirs
    with TemporaryDirectory() as folder:
        path = Path(folder)
        if hasattr(theirs, "save_pretrained"):
            theirs.save_pretrained(path)
        else:
            path /= "theirs.pth"
            torch.save(theirs.state_dict(), path)
        return create_model(case.model, weights=path, **case.arguments), theirs


def measured(case: Case, ours: nn.Module, theirs: nn.Module) -> dict[str, Any]:
    inputs, nets = case.inputs(**case.sizes), [net.to(case.dtype).eval() for net in (ours, theirs)]
    inputs = tuple(each.to(case.dtype) if each.is_floating_point() else each for each in inputs)
    answers = [case.asked(net, *inputs) for net in nets]
    error = torch.randn_like(answers[1])
    for each in answers:
        each.backward(error)
    found, theirs_found = ({k: p.grad for k, p in net.named_parameters() if p.grad is not None} for net in nets)
    expected = in_our_names(case, ours, theirs_found)
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    parts = [relative(found[key], expected[key], expected[key.replace("key.bias", "key.weight")]) for key in found]
    outputs, gradients = relative(*answers, answers[1]).item(), torch.stack(parts).max().item()  # NaN where one is
    limit = LIMITS[case.dtype]
    return {
        "parameters": sum(p.numel() for p in ours.parameters()),
        "inputs": [list(each.shape) for each in inputs],
        "dtype": str(case.dtype).removeprefix("torch."),
        "outputs": outputs,
        "gradients": gradients,
        "compared": len(parts),
        "limit": limit,
        "holds": outputs <= limit and gradients <= limit,
    }


def relative(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    return (a - b).detach().abs().max() / scale.detach().abs().max()


def placed(case: Case) -> dict[str, Any]:
    """On `meta`: every tensor of theirs is one of ours, and none is left over. UserError where it is not so."""
    with torch.device("meta"):
        theirs, ours = case.theirs(case.model, **case.sizes), create_model(case.model, **case.arguments)
    report, _ = match(ours, in_our_names(case, ours, dict(theirs.named_parameters())), {}, case.other)
    counted = {"parameters": sum(p.numel() for p in ours.parameters()), "tensors": len(report.matched)}
    return {**counted, "holds": not (report.replaced or report.dropped or report.renamed)}


def one(case: Case) -> dict[str, Any]:
    record = {"ours": case.name, "other": case.other, "model": case.model}
    try:
        record |= placed(case) if case.model in LARGE else measured(case, *both(case))
    except ImportError as error:
        return {**record, "holds": None, "why": f"not run: {error}"}
    except UserError as error:
        record |= {"holds": False, "why": str(error)}
    theirs = {torchvisions: "torchvision", hugging_faces: "transformers"}.get(case.theirs)
    versions = {theirs: version(theirs)} if theirs else {}
    made = {"commit": current_commit(), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    return {**record, **pairs.machine(torch.device("cpu")), **versions, **made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME")
    only = parser.parse_args().only
    if not any(each in name for name in CASES for each in only):
        parser.error(f"no case has {' or '.join(only)} in its name")
    torch.set_num_threads(1)
    done = {}
    for name, case in CASES.items():
        if any(each in name for each in only):
            done = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
            done[name] = one(case)
            print(name, json.dumps(done[name]), flush=True)
            pairs.write(OUT, {key: done[key] for key in CASES if key in done})
    return 3 if any(row["holds"] is False for row in done.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
