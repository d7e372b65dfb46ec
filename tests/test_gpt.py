"""GPT against its papers' sizes, against Hugging Face's with the same weights, and its cache against none."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dl_zoo.checkpoints import load_weights
from dl_zoo.errors import UserError
from dl_zoo.models.attention import Attention
from dl_zoo.models.gpt import GPT

SMALL: dict[str, Any] = {"vocab_size": 19, "context": 12, "width": 16, "heads": 4, "depth": 2, "dropout": 0.0}
CHARACTERS: dict[str, Any] = {"vocab_size": 65, "bias": False}
SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "gpt1": ({"vocab_size": 40478, "context": 512, "norm": "post", "final_norm": False}, 116_534_784),
    "gpt2": ({}, 124_439_808),
    "gpt2_medium": ({"width": 1024, "heads": 16, "depth": 24}, 354_823_168),
    "gpt2_large": ({"width": 1280, "heads": 20, "depth": 36}, 774_030_080),
    "gpt2_xl": ({"width": 1600, "heads": 25, "depth": 48}, 1_557_611_200),
    "gpt_char": (CHARACTERS | {"context": 64, "width": 128, "heads": 4, "depth": 4}, 804_096),
    "gpt_char, large": (CHARACTERS | {"context": 256, "width": 384, "heads": 6, "depth": 6}, 10_745_088),
}
GPT1 = {"norm": "post", "final_norm": False}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(**others: Any) -> GPT:
    net = GPT(**SMALL | others)
    with torch.no_grad():
        for parameter in net.parameters():  # biases and norms start at 0 and 1, where mistakes hide
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.eval()


def text(batch: int = 3, length: int = 8) -> Tensor:
    return torch.randint(0, 19, (batch, length))


# ---- the papers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_parameters(name: str) -> None:
    arguments, parameters = SIZES[name]
    with torch.device("meta"):
        net = GPT(**arguments)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_trains_on_meta() -> None:
    with torch.device("meta"):
        net = GPT(depth=2)
        logits, state = net(torch.zeros(2, 5, dtype=torch.int64))
        logits.sum().backward()
        assert net(torch.zeros(2, 3, dtype=torch.int64), state)[0].shape == (2, 3, 50257)
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


def test_weights_at_the_start() -> None:
    """GPT-2: N(0, 0.02), the ends of the 2 N branches 1 / sqrt(2 N) of that; GPT-1: no such thing."""
    for others, last in (({}, 0.02 / 12**0.5), (GPT1, 0.02)):
        net = GPT(**SMALL | {"width": 128, "depth": 6, "vocab_size": 500, "context": 200} | others)
        for key, value in net.state_dict().items():
            if value.dim() == 2:
                std = last if key.endswith(("attention.out.weight", "feed.outer.weight")) else 0.02
                assert value.std().item() == pytest.approx(std, rel=0.05), key
            else:
                assert torch.equal(value, torch.full_like(value, float("norm.weight" in key))), key


def test_without_biases() -> None:
    assert not any(key.endswith("bias") for key in GPT(**SMALL, bias=False).state_dict())


# ---- what it sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [{}, GPT1, {"positions": "rotary"}], ids=["gpt2", "gpt1", "rotary"])
def test_the_future_changes_nothing(others: dict[str, Any]) -> None:
    net, tokens = small(**others), text()
    before, _ = net(tokens)
    for t in range(1, 8):
        other = tokens.clone()
        other[:, t:] = (tokens[:, t:] + 1) % 19
        after, _ = net(other)
        assert torch.equal(before[:, :t], after[:, :t])
        assert (before[:, t:] - after[:, t:]).abs().amax(2).min() > 1e-4


@pytest.mark.parametrize("chunks", [[1] * 8, [3, 5], [5, 1, 2], [8]], ids=str)
@pytest.mark.parametrize(
    "others",
    [{}, GPT1, {"positions": "rotary"}, {"positions": "sinusoid", "head_width": 6, "bias": False}],
    ids=["gpt2", "gpt1", "rotary", "sinusoid"],
)
def test_cached_is_uncached(others: dict[str, Any], chunks: list[int]) -> None:
    net, tokens = small(**others), text()
    expected, after = net(tokens)
    state, found = None, []
    for piece in tokens.split(chunks, 1):
        logits, state = net(piece, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(state, after, rtol=0, atol=1e-5)


def test_a_state_can_be_reordered() -> None:
    net, tokens = small(), text()
    _, state = net(tokens)
    order, following = torch.tensor([2, 0, 0]), torch.tensor([[3], [4], [5]])
    found, _ = net(following, tuple(tuple(each.index_select(0, order) for each in pair) for pair in state))
    expected, _ = net(torch.cat([tokens[order], following], 1))
    torch.testing.assert_close(found, expected[:, -1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_longer_than_the_context(positions: str) -> None:
    net = small(positions=positions)
    _, state = net(text(length=12))
    for fails in (lambda: net(text(length=13)), lambda: net(text(length=1), state)):
        with pytest.raises(ValueError, match="13 tokens is longer than the context, 12"):
            fails()
    assert small(context=0, positions="none")(text(length=50))[0].shape == (3, 50, 19)


def test_attention_maps() -> None:
    net, tokens = small(dropout=0.5).train(), text()
    expected, _ = net.eval()(tokens)
    (logits, _), maps = net.train().attention_maps(tokens)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert {name: weights.shape for name, weights in maps.items()} == {
        f"layers.{number}.attention": (3, 4, 8, 8) for number in (0, 1)
    }
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(3), torch.ones(3, 4, 8))
        assert not weights.triu(1).any()
    assert net.training
    assert all(layer.maps is None for layer in net.modules() if isinstance(layer, Attention))
    _, state = net.eval()(tokens[:, :5])
    (_, _), later = net.attention_maps(tokens[:, 5:], state)  # three tokens look at eight
    torch.testing.assert_close(later["layers.1.attention"], maps["layers.1.attention"][:, :, 5:], rtol=0, atol=1e-5)


# ---- switches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch",
    [{"norm": "post"}, {"scaled": False}, {"heads": 2}, {"final_norm": False}]
    + [{"positions": kind} for kind in ("sinusoid", "rotary", "none")],
    ids=str,
)
def test_each_switch_changes_the_output(switch: dict[str, Any]) -> None:
    """With the same weights as far as both have them."""
    net, other, tokens = small(), GPT(**SMALL | switch).eval(), text()
    gone = other.load_state_dict(net.state_dict(), strict=False)
    assert not gone.missing_keys
    assert (net(tokens)[0] - other(tokens)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("place", ["dropout", "embedding_dropout", "attention_dropout"])
def test_each_place_of_dropout(place: str) -> None:
    net, tokens = small(), text()
    other = GPT(**SMALL | {"embedding_dropout": 0.0, "attention_dropout": 0.0} | {place: 0.5})
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(tokens)[0], net(tokens)[0])
    assert not torch.allclose(other.train()(tokens)[0], net(tokens)[0], atol=1e-2)
    assert torch.equal(net.train()(tokens)[0], net.eval()(tokens)[0])


def test_an_output_layer_of_its_own() -> None:
    tied, untied = GPT(**SMALL), GPT(**SMALL, tied=False)
    assert (tied.heads, untied.heads) == ((), ("head",))
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"head.weight"}
    with torch.no_grad():
        untied.head.weight.zero_()
    assert not untied(text())[0].any()


@pytest.mark.parametrize("others", [{}, {"norm": "post"}], ids=str)
def test_learns_eight_sequences(others: dict[str, Any]) -> None:
    net, tokens = GPT(**SMALL | {"width": 32} | others), text(8, 9)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]  # the first token of each is a guess


# ---- weights of others -------------------------------------------------------------------------------------------


def hugging_face(kind: str, **others: Any) -> nn.Module:
    """`transformers`' GPT-2 or GPT ("OpenAIGPT") with random weights, small unless told otherwise."""
    transformers = pytest.importorskip("transformers", reason="parity with Hugging Face needs transformers")
    size = {"vocab_size": 19, "n_positions": 12, "n_embd": 16, "n_head": 4, "n_layer": 2}
    rates = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    net = getattr(transformers, f"{kind}LMHeadModel")(getattr(transformers, f"{kind}Config")(**size | rates | others))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    return net.eval()


@pytest.mark.parametrize(("kind", "layout", "others"), [("GPT2", "GPT-2", {}), ("OpenAIGPT", "GPT", GPT1)])
def test_hugging_faces_with_the_same_weights(kind: str, layout: str, others: dict[str, Any]) -> None:
    theirs, net, tokens = hugging_face(kind).double(), small(**others).double(), text(length=12)
    name, state = net.adopted(theirs.state_dict())
    assert name == f"Hugging Face {layout}"
    net.load_state_dict(state)
    expected, found = theirs(tokens).logits, net(tokens)[0]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    for logits in (expected, found):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    _, gradients = net.adopted({key: p.grad for key, p in theirs.named_parameters()})
    torch.testing.assert_close({key: p.grad for key, p in net.named_parameters()}, gradients, rtol=1e-6, atol=1e-10)


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2_large", "gpt2_xl")]


@pytest.mark.parametrize("name", ["gpt1", "gpt2", "gpt2_medium", *LARGE])
def test_keys_and_shapes_are_hugging_faces(name: str) -> None:
    pytest.importorskip("transformers", reason="parity with Hugging Face needs transformers")
    arguments, _ = SIZES[name]
    with torch.device("meta"):
        net = GPT(**arguments)
        theirs = hugging_face(
            "OpenAIGPT" if name == "gpt1" else "GPT2",
            vocab_size=net.embedding.num_embeddings,
            n_positions=net.context,
            n_embd=net.embedding.embedding_dim,
            n_head=net.layers[0].attention.heads,
            n_layer=len(net.layers),
        )
    _, state = net.adopted(dict(theirs.named_parameters()))
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }


@pytest.mark.slow
def test_gpt2_at_full_size_is_hugging_faces() -> None:
    theirs = hugging_face("GPT2", vocab_size=50257, n_positions=1024, n_embd=768, n_head=12, n_layer=12)
    for parameter in theirs.parameters():
        parameter.data.mul_(0.1)
    net, tokens = GPT().eval(), torch.randint(0, 50257, (1, 64))
    net.load_state_dict(net.adopted(theirs.state_dict())[1])
    with torch.no_grad():
        expected, found = theirs(tokens).logits, net(tokens)[0]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def in_their_names(net: GPT, transposed: bool = True) -> dict[str, Tensor]:
    """A net's weights as a file of others has them: without Hugging Face's prefix, and without its head."""
    theirs = {}
    names = {"attention_norm": "ln_1", "feed_norm": "ln_2", "attention.out": "attn.c_proj", "layers": "h"}
    names |= {"feed.inner": "mlp.c_fc", "feed.outer": "mlp.c_proj", "embedding": "wte", "positions.table": "wpe"}
    state = net.state_dict()
    for key, value in state.items():
        name = key
        for ours, other in names.items():
            name = name.replace(ours, other)
        if name.startswith("norm."):
            name = f"ln_f{name[4:]}"
        if ".attention.query" in key:
            whole = torch.cat([state[key.replace("query", part)] for part in ("query", "key", "value")])
            name, value = name.replace("attention.query", "attn.c_attn"), whole  # noqa: PLW2901
        elif ".attention.key" in key or ".attention.value" in key:
            continue
        is_dense = value.dim() == 2 and name.startswith("h.")
        theirs[name] = (value.T if transposed and is_dense else value).contiguous()
    return theirs


@pytest.mark.parametrize("prefix", ["", "transformer.", "module.transformer.", "_orig_mod.transformer."])
@pytest.mark.parametrize("layout", ["Hugging Face GPT-2", "nanoGPT"])
def test_adopted_layouts(layout: str, prefix: str) -> None:
    net, other = small(), small()
    theirs = {f"{prefix}{k}": v for k, v in in_their_names(other, transposed=layout != "nanoGPT").items()}
    if prefix:
        theirs[f"{prefix.removesuffix('transformer.')}lm_head.weight"] = other.embedding.weight.detach()
    for number in range(2):
        theirs[f"{prefix}h.{number}.attn.bias"] = torch.ones(1, 1, 12, 12).tril()
        theirs[f"{prefix}h.{number}.attn.masked_bias"] = torch.tensor(-1e4)
    name, state = net.adopted(theirs)
    assert name == layout
    assert state.keys() == net.state_dict().keys()
    net.load_state_dict(state)
    assert torch.equal(net(tokens := text())[0], other(tokens)[0])


def test_loading_a_file_of_theirs(tmp_path: Path) -> None:
    net, other = small(), small()
    save_file(in_their_names(other), tmp_path / "model.safetensors")
    report = load_weights(net, tmp_path)
    assert report.percent == 100
    assert "Hugging Face GPT-2" in str(report)
    assert torch.equal(net(tokens := text())[0], other(tokens)[0])


def test_a_head_that_is_not_the_embedding_is_not_lost() -> None:
    net, theirs = small(), in_their_names(small())
    head = torch.randn(19, 16)
    _, state = net.adopted(theirs | {"lm_head.weight": head})
    assert torch.equal(state["head.weight"], head)  # for the loader to judge
    untied = small(tied=False)
    assert torch.equal(untied.adopted(theirs | {"lm_head.weight": head})[1]["head.weight"], head)
    assert torch.equal(untied.adopted(theirs)[1]["head.weight"], theirs["wte.weight"])


def test_other_layouts_are_left_alone(tmp_path: Path) -> None:
    net = small()
    own = net.state_dict()
    name, state = net.adopted(own)
    assert name == ""
    assert state is own
    more = {f"h.{number}.crossattention.c_attn.weight": torch.zeros(2) for number in (0, 1)}
    save_file(in_their_names(net) | more, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="crossattention"):
        load_weights(net, tmp_path / "x.safetensors")
