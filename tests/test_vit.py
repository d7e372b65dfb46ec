"""ViT: the papers' counts, patches, and outputs and gradients of torchvision's and Hugging Face's of equal weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer, get_model

from dl_zoo.checkpoints import load_weights
from dl_zoo.errors import UserError
from dl_zoo.freezing import freeze
from dl_zoo.models.vit import ViT
from dl_zoo.stages import stages

SMALL: dict[str, Any] = {"num_classes": 5, "width": 24, "image_size": 32, "patch": 8, "heads": 3, "depth": 2}
SIZES = {
    "tiny": ({"width": 192, "heads": 3}, 5_717_416),
    "small": ({"width": 384, "heads": 6}, 22_050_664),
    "base": ({}, 86_567_656),
    "base 32": ({"patch": 32}, 88_224_232),
    "large": ({"width": 1024, "heads": 16, "depth": 24}, 304_326_632),
    "cifar": (
        {"num_classes": 10, "width": 192, "image_size": 32, "patch": 4, "heads": 3, "depth": 9},
        4_028_170,
    ),
    "digits": (
        {"channels": 1, "num_classes": 10, "width": 64, "image_size": 8, "patch": 2, "heads": 4, "depth": 4},
        202_186,
    ),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(**others: Any) -> ViT:
    """Of random weights everywhere: a head of zeros would hide all the rest."""
    return scrambled(ViT(**SMALL | others))


def scrambled(net: Any) -> Any:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32)


# ---- the paper ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "count"), SIZES.values(), ids=SIZES.keys())
def test_counts(how: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        net = ViT(**how)
    assert sum(p.numel() for p in net.parameters()) == count


def test_initial_weights() -> None:
    net = ViT(num_classes=5, width=192, patch=16, image_size=96, heads=3, depth=1)
    assert not net.head.weight.any()
    assert not net.embedding.token.any()
    assert not any(p.any() for name, p in net.named_parameters() if name.endswith("bias"))
    assert net.embedding.positions.table.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert net.embedding.patches.weight.std().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.1)
    assert net.layers[0].feed.inner.weight.abs().max().item() == pytest.approx((6 / (5 * 192)) ** 0.5, rel=0.01)
    assert net.layers[0].attention.query.weight.abs().max().item() == pytest.approx((3 / 192) ** 0.5, rel=0.01)
    assert not net(torch.randn(2, 3, 96, 96)).any()  # every class is as likely at first


def test_wrong_sizes() -> None:
    with pytest.raises(ValueError, match="image_size=30 is not a multiple of patch=8"):
        ViT(image_size=30, patch=8)
    with pytest.raises(ValueError, match="positions='rotary' is not one of learned, sinusoid, none"):
        ViT(positions="rotary")
    for height, width in ((16, 32), (32, 40), (64, 64)):
        with pytest.raises(ValueError, match=f"pictures are {height}x{width}, and the net is for 32x32"):
            small()(torch.zeros(1, 3, height, width))


# ---- patches -----------------------------------------------------------------------------------------------------


def cut(x: Tensor, patch: int = 8) -> Tensor:
    """(B, C, H, W) to (B, N, C, P, P), row by row."""
    return x.unfold(2, patch, patch).unfold(3, patch, patch).flatten(2, 3).transpose(1, 2)


def put_together(patches: Tensor) -> Tensor:
    """The way back, for 4 x 4 patches."""
    rows = patches.unflatten(1, (4, 4))  # (B, 4, 4, C, P, P)
    return rows.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def test_the_patch_embedding_is_one_linear_map_of_flattened_patches() -> None:
    net, x = small(positions="none"), pictures()
    mapped = F.linear(cut(x).flatten(2), net.embedding.patches.weight.flatten(1), net.embedding.patches.bias)
    embedded = net.embedding(x)
    assert torch.allclose(embedded[:, 1:], mapped, atol=1e-5)
    assert torch.equal(embedded[:, :1], net.embedding.token.expand(3, 1, -1))


def test_patches_moved_together_with_their_positions_change_nothing() -> None:
    """An identity of sets: up to the order of sums, so in float64."""
    net, x, order = small().double().eval(), pictures().double(), torch.randperm(16)
    assert torch.equal(put_together(cut(x)), x)
    moved = put_together(cut(x)[:, order])
    before = net(x)
    assert not torch.allclose(net(moved), before, atol=1e-3)
    table = net.embedding.positions.table.weight
    with torch.no_grad():
        table[1:] = table[1:][order]
    assert torch.allclose(net(moved), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", ["learned", "sinusoid", "none"])
def test_without_positions_the_order_of_patches_is_unknown(positions: str) -> None:
    net, x = small(positions=positions).eval(), pictures()
    moved = put_together(cut(x)[:, torch.randperm(16)])
    assert torch.allclose(net(moved), net(x), atol=1e-5) == (positions == "none")


# ---- maps, parts, learning ---------------------------------------------------------------------------------------


def test_attention_maps() -> None:
    net, x = small(), pictures()
    logits, maps = net.attention_maps(x)
    assert net.training
    assert torch.allclose(logits, net.eval()(x), atol=1e-5)
    assert list(maps) == ["layers.0.attention", "layers.1.attention"]
    for weights in maps.values():
        assert weights.shape == (3, 3, 17, 17)
        assert torch.allclose(weights.sum(3), torch.ones(3, 3, 17))


def test_norms_have_the_authors_epsilon() -> None:
    assert {layer.eps for layer in small().modules() if isinstance(layer, nn.LayerNorm)} == {1e-6}


def test_dropout_is_where_the_paper_has_it() -> None:
    net = small(dropout=0.5)
    layer = net.layers[0]
    assert [net.embedding.dropout.p, layer.dropout.p, layer.feed.dropout.p, layer.attention.dropout] == [0.5] * 3 + [0]


def test_features() -> None:
    whole, bare, x = small().eval(), small(num_classes=0).eval(), pictures()
    bare.load_state_dict({name: value for name, value in whole.state_dict().items() if not name.startswith("head")})
    assert bare(x).shape == (3, 24)
    assert torch.allclose(whole.head(bare(x)), whole(x), atol=1e-6)


def test_stages_and_freezing() -> None:
    net = small()
    parts = [sorted({name.partition(".")[0] for name in stage}) for stage in stages(net)]
    assert parts == [["embedding"], ["layers"], ["layers"], ["norm"], ["head"]]
    freeze(net, ["backbone"])
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


def test_trains_on_meta() -> None:
    with torch.device("meta"):
        net = ViT()
        net(torch.zeros(2, 3, 224, 224)).sum().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


def test_overfits_eight_pictures() -> None:
    net, x, targets = ViT(**SMALL), pictures(8), torch.arange(8) % 5
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(5.0).log().item())
    assert losses[-1] < 0.1 * losses[0]


# ---- torchvision's and Hugging Face's ----------------------------------------------------------------------------


class Theirs(NamedTuple):
    layout: str
    make: Callable[[ViT], nn.Module]  # of the sizes of ours, in training mode without dropout
    eps: float


def torchvisions(ours: ViT) -> nn.Module:
    layer = ours.layers[0]
    return VisionTransformer(
        ours.size,
        ours.embedding.patches.kernel_size[0],
        len(ours.layers),
        layer.attention.heads,
        layer.attention.query.in_features,
        layer.feed.inner.out_features,
        num_classes=ours.head.out_features,
    )


def hugging_faces(ours: ViT, kind: str = "ViTForImageClassification") -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers, of the test extra, is not installed")
    layer = ours.layers[0]
    config = transformers.ViTConfig(
        image_size=ours.size,
        patch_size=ours.embedding.patches.kernel_size[0],
        num_hidden_layers=len(ours.layers),
        num_attention_heads=layer.attention.heads,
        hidden_size=layer.attention.query.in_features,
        intermediate_size=layer.feed.inner.out_features,
        num_labels=ours.head.out_features,
    )
    return getattr(transformers, kind)(config).train()


BOTH = [Theirs("torchvision ViT", torchvisions, 1e-6), Theirs("Hugging Face ViT", hugging_faces, 1e-12)]
both = pytest.mark.parametrize("theirs", BOTH, ids=[each.layout.split()[0] for each in BOTH])


def logits(net: nn.Module, x: Tensor) -> Tensor:
    answer = net(x)
    return answer if isinstance(answer, Tensor) else answer.logits


@both
def test_their_outputs_and_gradients(theirs: Theirs, tmp_path: Path) -> None:
    ours = small(eps=theirs.eps, hidden=40)
    reference, x = scrambled(theirs.make(ours)), pictures()
    torch.save({f"module.{name}": value for name, value in reference.state_dict().items()}, tmp_path / "theirs.pth")
    report = load_weights(ours, tmp_path / "theirs.pth")
    assert report.source.endswith(f"({theirs.layout})")
    assert report.percent == 100
    expected, answer = logits(reference, x), ours(x)
    assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5)
    for each in (answer, expected):
        each.pow(2).mean().backward()
    _, gradients = ours.adopted({name: p.grad for name, p in reference.named_parameters()})
    for name, parameter in ours.named_parameters():
        scale = max(gradients[name].abs().max(), 1e-3)  # those of keys' biases are zero, but for rounding
        assert (parameter.grad - gradients[name]).abs().max() <= 1e-4 * scale, name


@both
@pytest.mark.parametrize("size", ["base", "large"])
def test_their_names_and_shapes(theirs: Theirs, size: str) -> None:
    with torch.device("meta"):
        ours = ViT(**SIZES[size][0])
        layout, state = ours.adopted(theirs.make(ours).state_dict())
        assert layout == theirs.layout
        assert {n: v.shape for n, v in state.items()} == {n: v.shape for n, v in ours.state_dict().items()}


def test_files_of_hugging_face(tmp_path: Path) -> None:
    """Which have other names than its objects; and one of a body with a pooler and no classifier."""
    for kind, dropped, replaced in (
        ("ViTForImageClassification", [], []),
        ("ViTModel", ["pooler.bias", "pooler.weight"], ["head.bias", "head.weight"]),
    ):
        ours = small(eps=1e-12).eval()
        reference = scrambled(hugging_faces(ours, kind=kind)).eval()
        reference.save_pretrained(tmp_path / kind)
        report = load_weights(ours, tmp_path / kind)
        assert (sorted(report.dropped), report.replaced) == (dropped, replaced)
        body = getattr(reference, "vit", reference)
        x = pictures()
        ours.head = nn.Identity()
        assert torch.allclose(ours(x), body(x).last_hidden_state[:, 0], rtol=1e-4, atol=1e-5)


def test_torchvisions_published_files_have_older_names(tmp_path: Path) -> None:
    ours = small()
    state = scrambled(torchvisions(ours)).state_dict()
    old = {name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for name, v in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    assert load_weights(ours, tmp_path / "old.pth").percent == 100
    assert torch.equal(ours.layers[1].feed.outer.bias, state["encoder.layers.encoder_layer_1.mlp.3.bias"])


def test_a_head_of_other_classes_stays_fresh(tmp_path: Path) -> None:
    torch.save(torchvisions(small()).state_dict(), tmp_path / "theirs.pth")
    ours = ViT(**SMALL | {"num_classes": 7})
    assert load_weights(ours, tmp_path / "theirs.pth").replaced == ["head.bias", "head.weight"]
    assert not ours.head.weight.any()
    head = small().head
    head.reset_parameters()
    assert not head.weight.any()
    assert not head.bias.any()


def test_a_pooler_beside_the_head_is_dropped(tmp_path: Path) -> None:
    ours = small()
    pooler = {"pooler.weight": torch.zeros(24, 24), "pooler.bias": torch.zeros(24)}
    torch.save(small().state_dict() | pooler, tmp_path / "both.pt")
    report = load_weights(ours, tmp_path / "both.pt")
    assert (report.percent, sorted(report.dropped)) == (100, ["pooler.bias", "pooler.weight"])


def test_positions_of_another_size_are_refused(tmp_path: Path) -> None:
    torch.save(torchvisions(small(image_size=64)).state_dict(), tmp_path / "64.pth")
    with pytest.raises(UserError, match=r"positions\.table\.weight is 65 x 24 in the file and 17 x 24 in the net"):
        load_weights(small(), tmp_path / "64.pth")


def test_other_layouts_are_left_alone() -> None:
    net = small()
    for state in (net.state_dict(), {"deit.embeddings.cls_token": torch.zeros(1, 1, 24)}):
        assert net.adopted(state) == ("", state)


@pytest.mark.slow
@both
def test_vit_base_answers_as_theirs(theirs: Theirs) -> None:
    ours, x = ViT(eps=theirs.eps).eval(), torch.randn(2, 3, 224, 224)
    reference = get_model("vit_b_16") if theirs.make is torchvisions else theirs.make(ours)
    head = [module for module in reference.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.normal_(head.weight, std=0.02)
    ours.load_state_dict(ours.adopted(reference.eval().state_dict())[1])
    with torch.no_grad():
        assert torch.allclose(ours(x), logits(reference, x), rtol=1e-4, atol=1e-4)
