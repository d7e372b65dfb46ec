"""The Transformer against its paper, against `torch.nn.Transformer`, and attention against itself written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.from_scratch import attention as by_hand
from dl_zoo.models.attention import Attention, Positions
from dl_zoo.models.bert import BERT
from dl_zoo.models.gpt import GPT
from dl_zoo.models.transformer import EncoderLayer, Transformer

SMALL: dict[str, Any] = {"vocab_size": 19, "width": 16, "heads": 4, "hidden": 24, "depth": 2, "dropout": 0.0}
V37 = 37000


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(**others: Any) -> Transformer:
    net = Transformer(**SMALL | others)
    with torch.no_grad():
        for parameter in net.parameters():  # biases and norms start at 0 and 1, where mistakes hide
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def sentences(batch: int = 3, source: int = 7, target: int = 5) -> tuple[Tensor, Tensor]:
    """Without padding, which is 0."""
    return torch.randint(1, 19, (batch, source)), torch.randint(1, 19, (batch, target))


def padded() -> tuple[Tensor, Tensor]:
    source, target = sentences()
    source[1, 4:], source[2, 1:], target[1, 3:] = 0, 0, 0
    return source, target


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def on_meta(**arguments: Any) -> Transformer:
    with torch.device("meta"):
        return Transformer(**arguments)


# ---- the paper ---------------------------------------------------------------------------------------------------


def test_parameters_of_base_and_big() -> None:
    base, big = on_meta(), on_meta(width=1024, heads=16, hidden=4096, dropout=0.3)
    assert (count(base), count(big)) == (63_082_496, 214_245_376)
    assert (count(base) - V37 * 512, count(big) - V37 * 1024) == (44_138_496, 176_357_376)


@pytest.mark.parametrize(("head_width", "fewer"), [(16, 7), (32, 5)])
def test_key_size_of_table_3(head_width: int, fewer: int) -> None:
    """Rows B: 58 and 60 million instead of 65; so values keep their width."""
    assert round((count(on_meta()) - count(on_meta(head_width=head_width))) / 1e6) == fewer


@pytest.mark.parametrize(("heads", "head_width"), [(1, 512), (4, 128), (16, 32), (32, 16)])
def test_number_of_heads_of_table_3(heads: int, head_width: int) -> None:
    """Rows A: as many parameters, whatever the number of heads."""
    net = on_meta(heads=heads)
    assert count(net) == count(on_meta())
    assert net.encoder[0].attention.scale == head_width**-0.5


def test_one_matrix_for_both_languages_and_the_output() -> None:
    tied, untied = small(), small(tied=False)
    assert count(untied) - count(tied) == 2 * 19 * 16
    assert (tied.heads, untied.heads) == ((), ("head",))
    assert sum(value.shape[0] == 19 for value in tied.state_dict().values()) == 1  # so it is stored once


def test_embeddings_are_scaled_to_unit_variance() -> None:
    net = Transformer(vocab_size=1000, width=64, heads=4, hidden=8, depth=1, positions="none").eval()
    x, _ = net.embed(net.embedding, torch.arange(1000)[None], 0)
    assert x.var().item() == pytest.approx(1.0, rel=0.05)


def test_trains_on_meta() -> None:
    with torch.device("meta"):
        net, tokens = Transformer(depth=2), torch.ones(2, 5, dtype=torch.int64)
        logits, _ = net(tokens, tokens[:, :3])
        logits.sum().backward()
    assert logits.shape == (2, 3, V37)
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


# ---- written out -------------------------------------------------------------------------------------------------

MASKS = {
    "none": None,
    "causal": by_hand.causal(5, 7),
    "padding": torch.arange(7) < torch.tensor([7, 4, 1])[:, None, None, None],  # (B, 1, 1, S)
}


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_attention_by_hand_is_torchs(name: str, scaled: bool) -> None:
    q, k, v = leaves((3, 4, 5, 8), (3, 4, 7, 8), (3, 4, 7, 6))
    mask, error = MASKS[name], torch.randn(3, 4, 5, 6, dtype=torch.float64)
    theirs = F.scaled_dot_product_attention(q, k, v, mask, scale=None if scaled else 1.0)
    ours = by_hand.attention(q, k, v, mask, scaled)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    expected = torch.autograd.grad(theirs, (q, k, v), error)
    for found in (
        torch.autograd.grad(ours, (q, k, v), error),
        by_hand.attention_gradients(error, q, k, v, mask, scaled),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_softmax_of_large_numbers() -> None:
    x = torch.tensor([1e4, 1e4 - 1, -1e4], dtype=torch.float64)
    torch.testing.assert_close(by_hand.softmax(x), x.softmax(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("head_width", [None, 3])
def test_heads_by_hand_are_attentions(head_width: int | None, maps: bool) -> None:
    layer = Attention(16, 4, head_width, kv_width=12).double()
    layer.maps = [] if maps else None
    x, memory = leaves((3, 5, 16), (3, 7, 12))
    linears = (layer.query, layer.key, layer.value, layer.out)
    by = by_hand.Projections(*(each.weight.T for each in linears), tuple(each.bias for each in linears))
    mask = MASKS["padding"]
    ours, theirs = by_hand.multi_head(x, memory, by, 4, mask[:, 0]), layer(x, memory, mask)[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    wanted, error = (x, memory, *layer.parameters()), torch.randn_like(ours)
    of_ours, of_theirs = (torch.autograd.grad(each, wanted, error) for each in (ours, theirs))
    torch.testing.assert_close(of_ours, of_theirs, rtol=0, atol=1e-10)


def test_sinusoids_by_hand_are_those_that_are_added() -> None:
    table = Positions("sinusoid", 16)(torch.zeros(1, 50, 16))[0]
    torch.testing.assert_close(table, by_hand.sinusoids(50, 16), rtol=0, atol=1e-5)
    torch.testing.assert_close(Positions("sinusoid", 16)(torch.zeros(1, 20, 16), 30)[0], table[30:], rtol=0, atol=1e-6)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    """And rotation keeps lengths: that of position 0 is the vector itself."""
    net = Positions("rotary", 8)
    layer = Attention(8, 1).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    near, far = (layer(x, angles=net.angles(x, start))[0] for start in (0, 1000))
    torch.testing.assert_close(near, far, rtol=0, atol=1e-4)  # angles are float32
    assert not torch.allclose(near, layer(x)[0], atol=1e-2)
    one = x[:, :1]
    torch.testing.assert_close(layer(one, angles=net.angles(one))[0], layer(one)[0])


# ---- torch.nn.Transformer ----------------------------------------------------------------------------------------


def torchs(norm: str) -> nn.Transformer:
    """torch's has a last norm in either form; the paper's has none."""
    shape: dict[str, Any] = {"nhead": 4, "dim_feedforward": 24, "dropout": 0.0, "batch_first": True}
    shape["norm_first"] = norm == "pre"
    last = [nn.LayerNorm(16) if norm == "pre" else None for _ in range(2)]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, **shape), 2, last[0], enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, **shape), 2, last[1])
    return nn.Transformer(16, **shape, custom_encoder=encoder, custom_decoder=decoder)


def in_our_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights or gradients of `torch.nn.Transformer`."""
    ours = {}
    for key, value in theirs.items():
        norms = {"norm1.": "attention_norm.", "norm2.": "feed_norm.", "norm3.": "feed_norm."}
        norms |= {"norm2.": "cross_norm."} if key.startswith("decoder") else {}
        others = {"layers.": "", "self_attn.": "attention.", "multihead_attn.": "cross.", "out_proj.": "out."}
        others |= {"linear1.": "feed.inner.", "linear2.": "feed.outer.", "coder.norm.": "coder_norm."}
        name = key
        for old, new in (norms | others).items():
            name = name.replace(old, new)
        if "in_proj_" in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                ours[name.replace("in_proj_", f"{part}.")] = piece
        else:
            ours[name] = value
    return ours


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_torchs_transformer_with_the_same_weights(norm: str) -> None:
    net, other = small(norm=norm).double(), torchs(norm).double()
    other.load_state_dict({key: 0.3 * torch.randn_like(value) for key, value in other.state_dict().items()})
    net.load_state_dict(in_our_names(other.state_dict()) | {"embedding.weight": net.embedding.weight})
    source, target = padded()
    ours, _ = net(source, target)

    embedding = net.embedding.weight.detach().clone().requires_grad_()
    x, y = (net.positions(embedding[each] * 16**0.5) for each in (source, target))
    hidden, later = source == 0, ~by_hand.causal(5)
    out = other(x, y, tgt_mask=later, src_key_padding_mask=hidden, memory_key_padding_mask=hidden)
    theirs = out @ embedding.T
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)

    real = (target != 0)[..., None]
    for logits in (ours, theirs):
        (logits * real).square().sum().backward()
    expected = in_our_names({key: p.grad for key, p in other.named_parameters()}) | {"embedding.weight": embedding.grad}
    found = {key: p.grad for key, p in net.named_parameters()}
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-10)
    assert all(gradient.any() for key, gradient in found.items() if not key.endswith("key.bias"))  # softmax drops it


# ---- what attention may see --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_future_changes_nothing(norm: str) -> None:
    net, (source, target) = small(norm=norm), sentences()
    before, _ = net(source, target)
    for t in range(1, 5):
        other = target.clone()
        other[:, t:] = torch.randint(1, 19, other[:, t:].shape)
        after, _ = net(source, other)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.equal(before[:, t:], after[:, t:])


@pytest.mark.parametrize("positions", ["sinusoid", "rotary"])
def test_padding_changes_nothing(positions: str) -> None:
    net, (source, target) = small(positions=positions), sentences()
    expected, _ = net(source, target)
    more = [F.pad(each, (0, 3)) for each in (source, target)]
    torch.testing.assert_close(net(*more)[0][:, :5], expected, rtol=0, atol=1e-5)
    seen, _ = small(positions=positions, pad_id=None)(*more)
    assert (seen[:, :5] - expected).abs().max() > 1e-2  # when it is taken for words


def test_a_source_of_padding_alone_is_no_nan() -> None:
    net, (source, target) = small(), sentences()
    source[1] = 0
    logits, _ = net.train()(source, target)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    (shown, _), maps = net.attention_maps(source, target)
    torch.testing.assert_close(shown, logits, rtol=0, atol=1e-5)
    assert not maps["decoder.0.cross"][1].any()


def test_without_positions_the_encoder_sees_a_bag() -> None:
    order = torch.randperm(7)
    source, _ = sentences()
    for positions in ("none", "sinusoid", "rotary"):
        net = small(positions=positions)
        (moved, _), (encoded, _) = net.encode(source[:, order]), net.encode(source)
        assert torch.allclose(moved, encoded[:, order], atol=1e-5) == (positions == "none")


# ---- caches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [[1, 1, 1, 1, 1], [2, 3], [4, 1], [5]])
@pytest.mark.parametrize(
    "others",
    [{}, {"norm": "pre", "positions": "learned", "context": 8}, {"positions": "rotary"}, {"head_width": 3}],
    ids=["paper", "learned", "rotary", "narrow keys"],
)
def test_cached_is_uncached(others: dict[str, Any], chunks: list[int]) -> None:
    net, (source, target) = small(**others), padded()
    expected, after = net(source, target)
    state, found = net.start(net.encode(source)), []
    for piece in target.split(chunks, 1):
        logits, state = net.decode(piece, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(state, after, rtol=0, atol=1e-5)


def test_a_state_can_be_reordered() -> None:
    """As beam search does: the batch is the first dimension of every tensor."""
    net, (source, target) = small(), padded()
    _, (mask, layers) = net(source, target)
    order, following = torch.tensor([2, 0, 0]), torch.tensor([[3], [4], [5]])
    moved = (mask[order], tuple(tuple(each[order] for each in layer) for layer in layers))
    found, _ = net.decode(following, moved)
    expected, _ = net(source[order], torch.cat([target[order], following], 1))
    torch.testing.assert_close(found, expected[:, -1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sinusoid"])
def test_longer_than_the_context(positions: str) -> None:
    net, (source, target) = small(context=6, positions=positions), sentences(source=6, target=6)
    _, state = net(source, target)
    for fails in (
        lambda: net(*sentences(source=7, target=6)),
        lambda: net(*sentences(source=6, target=7)),
        lambda: net.decode(target[:, :1], state),
    ):
        with pytest.raises(ValueError, match="7 tokens is longer than the context, 6"):
            fails()
    assert small(context=0)(*sentences(source=60, target=70))[0].shape == (3, 70, 19)


# ---- maps --------------------------------------------------------------------------------------------------------


def test_attention_maps() -> None:
    net, (source, target) = small(dropout=0.5, attention_dropout=0.5), padded()
    expected, _ = net(source, target)
    net.train()
    net.decoder.eval()
    (logits, _), maps = net.attention_maps(source, target)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert net.training
    assert net.encoder.training
    assert not net.decoder.training
    assert not logits.requires_grad
    shapes = {"encoder.{}.attention": (3, 4, 7, 7), "decoder.{}.attention": (3, 4, 5, 5)}
    shapes["decoder.{}.cross"] = (3, 4, 5, 7)
    expected = {name.format(n): shape for name, shape in shapes.items() for n in (0, 1)}
    assert {name: weights.shape for name, weights in maps.items()} == expected
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
    assert not maps["decoder.0.attention"].triu(1).any()
    assert not maps["decoder.0.cross"][2, :, :, 1:].any()
    assert maps["encoder.0.attention"][0].gt(0).all()
    assert all(module.maps is None for module in net.modules() if isinstance(module, Attention))


def test_maps_are_put_back_after_an_error() -> None:
    net = small().train()
    with pytest.raises(IndexError):
        net.attention_maps(torch.full((1, 2), 99), torch.full((1, 2), 99))
    assert net.training
    assert net.encoder[0].attention.maps is None


# ---- switches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switch",
    [{"norm": "pre"}, {"scaled": False}, {"heads": 2}, {"pad_id": None}]
    + [{"positions": kind} for kind in ("learned", "rotary", "none")],
    ids=str,
)
def test_each_switch_changes_the_output(switch: dict[str, Any]) -> None:
    """With the same weights as far as both have them."""
    net = small(context=8)
    other = Transformer(**SMALL | {"context": 8} | switch).eval()
    kept = other.load_state_dict(net.state_dict(), strict=False)
    assert not kept.unexpected_keys
    difference = (net(*padded())[0] - other(*padded())[0]).abs().max()
    assert difference > 1e-2


@pytest.mark.parametrize("place", ["dropout", "embedding_dropout", "attention_dropout", "hidden_dropout"])
def test_each_place_of_dropout(place: str) -> None:
    net, inputs = small(), sentences()
    rates = {"embedding_dropout": 0.0} | {place: 0.5}
    other = Transformer(**SMALL | rates)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(*inputs)[0], net(*inputs)[0])
    assert not torch.allclose(other.train()(*inputs)[0], net(*inputs)[0], atol=1e-2)
    assert torch.equal(net.train()(*inputs)[0], net.eval()(*inputs)[0])


def test_dropout_of_embeddings_is_that_of_the_rest_unless_told() -> None:
    for rate, found in ((None, 0.3), (0.1, 0.1)):
        assert Transformer(**SMALL | {"dropout": 0.3, "embedding_dropout": rate}).dropout.p == found


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"heads": 3}, "not a multiple of heads=3"),
        ({"norm": "middle"}, "'middle' is not one of post, pre"),
        ({"positions": "alphabetical"}, "is not one of sinusoid"),
        ({"positions": "learned"}, "needs context"),
        ({"positions": "rotary", "head_width": 3}, "odd number"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Transformer(**SMALL | wrong)


def test_an_unknown_activation() -> None:
    with pytest.raises(ValueError, match="'selu' is not one of relu"):
        EncoderLayer(8, 2, 8, activation="selu")


# ---- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_learns_eight_pairs(norm: str) -> None:
    net = Transformer(**SMALL | {"norm": norm, "width": 32}).train()
    source, target = sentences(8, 6, 6)
    given = F.pad(target[:, :-1], (1, 0), value=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(source, given)[0].flatten(0, 1), target.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", [GPT, BERT, Transformer])
@pytest.mark.parametrize("positions", ["sinusoid", "rotary"])
@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_width(kind: type[nn.Module], positions: str, heads: int) -> None:
    with pytest.raises(ValueError, match=f"width=32 is not a multiple of heads={heads}"):
        kind(vocab_size=9, context=8, width=32, depth=1, heads=heads, positions=positions)
