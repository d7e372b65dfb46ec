"""BERT: the paper's counts, Hugging Face's outputs and gradients with the same weights, and what it is for."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dl_zoo.checkpoints import load_weights
from dl_zoo.errors import UserError
from dl_zoo.freezing import freeze
from dl_zoo.models.bert import BERT
from dl_zoo.stages import stages

SMALL: dict[str, Any] = {"vocab_size": 40, "context": 12, "width": 16, "heads": 2, "depth": 2}
FORMS = {"fills gaps": None, "classifier": 3, "features": 0}
LARGE: dict[str, Any] = {"width": 1024, "heads": 16, "depth": 24}
every_form = pytest.mark.parametrize("classes", FORMS.values(), ids=FORMS.keys())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(classes: int | None = None, **others: Any) -> BERT:
    """Of random weights everywhere, so that none is hidden by a zero or a one."""
    return scrambled(BERT(**SMALL | {"dropout": 0.0, "num_classes": classes} | others))


def scrambled(net: Any) -> Any:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def padded_texts() -> Tensor:
    """Three texts of 12, 7 and 1 tokens, padded with 0."""
    tokens = torch.randint(1, SMALL["vocab_size"], (3, 12))
    tokens[1, 7:] = tokens[2, 1:] = 0
    return tokens


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# ---- the paper ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "pooled", "gaps"), [({}, 109_482_240, 109_514_298), (LARGE, 335_141_888, 335_174_458)])
def test_counts(how: dict[str, Any], pooled: int, gaps: int) -> None:
    with torch.device("meta"):
        assert count(BERT(**how, num_classes=0)) == pooled
        assert count(BERT(**how)) == gaps
        assert count(BERT(**how, num_classes=2)) == pooled + 2 * how.get("width", 768) + 2


def test_initial_weights_are_cut_at_two_deviations() -> None:
    net = BERT(vocab_size=2000, context=12, width=64, heads=2, depth=1)
    for weight in (net.embedding.tokens.weight, net.embedding.positions.table.weight, net.layers[0].feed.inner.weight):
        assert 0.035 < weight.abs().max() <= 0.04
        assert weight.std().item() == pytest.approx(0.02 * 0.88, rel=0.1)  # what is left of a normal's deviation
    assert not any(p.any() for name, p in net.named_parameters() if name.endswith("bias"))


@every_form
def test_norms_have_the_authors_epsilon(classes: int | None) -> None:
    assert {layer.eps for layer in small(classes).modules() if isinstance(layer, nn.LayerNorm)} == {1e-12}


@every_form
def test_forms(classes: int | None) -> None:
    net, tokens = small(classes), padded_texts()
    assert net(tokens).shape == {None: (3, 12, 40), 3: (3, 3), 0: (3, 16)}[classes]
    assert net.encode(tokens).shape == (3, 12, 16)


def test_features_are_what_the_classifier_sees() -> None:
    judge, bare, tokens = small(3).eval(), small(0).eval(), padded_texts()
    bare.load_state_dict({name: value for name, value in judge.state_dict().items() if "classifier" not in name})
    assert torch.allclose(judge.classifier(bare(tokens)), judge(tokens), atol=1e-6)


def test_the_words_are_also_the_output_layer() -> None:
    net, tokens = small().eval(), torch.randint(1, 39, (3, 12))  # without word 39
    with torch.no_grad():
        before = net(tokens)
        net.embedding.tokens.weight[39] += 1
        assert torch.equal(net(tokens)[..., :39], before[..., :39])
        assert not torch.allclose(net(tokens)[..., 39], before[..., 39])


def test_positions_see_both_sides_and_segments_count() -> None:
    net, tokens = small().eval(), torch.randint(1, 40, (1, 12))
    other = tokens.clone()
    other[0, 11] = tokens[0, 11] % 39 + 1
    assert not torch.allclose(net(tokens)[0, 0], net(other)[0, 0])
    second = torch.zeros(1, 12, dtype=torch.int64)
    assert torch.equal(net(tokens, second), net(tokens))
    second[:, 6:] = 1
    assert not torch.allclose(net(tokens, second), net(tokens))


def test_other_positions() -> None:
    tokens = torch.randint(1, 40, (2, 6))
    order = torch.randperm(6)
    for positions, knows_order, knows_place in (
        ("learned", True, True),
        ("sinusoid", True, True),
        ("rotary", True, False),
        ("none", False, False),
    ):
        net = small(positions=positions).double().eval()
        mixed = torch.allclose(net(tokens[:, order]), net(tokens)[:, order])
        behind = F.pad(tokens, (3, 0))  # three of padding before, attended to by none
        moved = torch.allclose(net(behind)[:, 3:], net(tokens))
        assert (mixed, moved) == (not knows_order, not knows_place), positions


def test_a_text_longer_than_the_context() -> None:
    with pytest.raises(ValueError, match="13 tokens is longer than the context, 12"):
        small()(torch.ones(1, 13, dtype=torch.int64))


# ---- padding, maps, parts ----------------------------------------------------------------------------------------


@every_form
def test_padding_changes_no_output(classes: int | None) -> None:
    net, tokens = small(classes).eval(), padded_texts()
    for text, length in zip(tokens, (12, 7, 1), strict=True):
        alone, among = net(text[None, :length]), net(tokens)[(tokens == text).all(1)]
        assert torch.allclose(alone, among[:, :length] if classes is None else among, atol=1e-5)
    unmasked = small(classes, pad_id=None).eval()
    unmasked.load_state_dict(net.state_dict())
    assert not torch.allclose(unmasked(tokens)[1], net(tokens)[1], atol=1e-3)  # so the mask is what does it


def test_a_text_of_padding_alone_spoils_nothing() -> None:
    net, tokens = small(3), padded_texts()
    tokens[2] = 0
    net(tokens).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_attention_maps() -> None:
    net, tokens = small(), padded_texts()
    logits, maps = net.attention_maps(tokens)
    assert net.training
    assert torch.allclose(logits, net.eval()(tokens), atol=1e-5)
    assert list(maps) == ["layers.0.attention", "layers.1.attention"]
    for weights in maps.values():
        assert weights.shape == (3, 2, 12, 12)
        assert torch.allclose(weights.sum(3), torch.ones(3, 2, 12))
        assert not weights[1, :, :, 7:].any()  # padding


@every_form
def test_stages_and_freezing(classes: int | None) -> None:
    net = small(classes)
    parts = [sorted({name.partition(".")[0] for name in stage}) for stage in stages(net)]
    top = {None: ["mlm"], 3: ["classifier", "pooler"], 0: ["pooler"]}[classes]
    assert parts == [["embedding"], ["layers"], ["layers"], top]
    freeze(net, ["backbone"])
    assert sorted({name.partition(".")[0] for name, p in net.named_parameters() if p.requires_grad}) == top


@every_form
def test_trains_on_meta(classes: int | None) -> None:
    with torch.device("meta"):
        net, tokens = BERT(num_classes=classes), torch.zeros(2, 32, dtype=torch.int64)
        net(tokens).sum().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in net.parameters())


@pytest.mark.parametrize("classes", [None, 4])
def test_overfits_eight_texts(classes: int | None) -> None:
    net, tokens = BERT(**SMALL | {"width": 32, "dropout": 0.0, "num_classes": classes}), torch.randint(1, 40, (8, 12))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    targets, seen = torch.arange(8) % 4, tokens
    if classes is None:
        seen = tokens.masked_fill(torch.rand(8, 12) < 0.3, 39)
        targets = tokens.masked_fill(seen == tokens, -100)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        logits = net(seen)
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


# ---- weights of kin ----------------------------------------------------------------------------------------------


def kept(net: nn.Module, other: nn.Module) -> set[str]:
    """The parts of `net` whose tensors are those of `other`."""
    theirs = other.state_dict()
    same = {name for name, value in net.state_dict().items() if name in theirs and torch.equal(value, theirs[name])}
    assert not {name.partition(".")[0] for name in net.state_dict().keys() - same} & {n.partition(".")[0] for n in same}
    return {name.partition(".")[0] for name in same}


def test_a_net_that_fills_gaps_starts_a_classifier_and_back(tmp_path: Path) -> None:
    gaps, judge = small(), small(3)
    fresh = judge.classifier.weight.clone()
    torch.save(gaps.state_dict(), tmp_path / "gaps.pt")
    report = load_weights(judge, tmp_path / "gaps.pt")
    assert {name.partition(".")[0] for name in report.dropped} == {"mlm"}
    assert report.replaced == ["classifier.bias", "classifier.weight", "pooler.bias", "pooler.weight"]
    assert kept(judge, gaps) == {"embedding", "layers"}
    assert torch.equal(judge.classifier.weight, fresh)
    torch.save(judge.state_dict(), tmp_path / "judge.pt")
    other = small(7)
    report = load_weights(other, tmp_path / "judge.pt")
    assert report.replaced == ["classifier.bias", "classifier.weight"]
    assert kept(other, judge) == {"embedding", "layers", "pooler"}
    report = load_weights(again := small(), tmp_path / "judge.pt")
    assert {name.partition(".")[0] for name in report.replaced} == {"mlm"}
    assert {name.partition(".")[0] for name in report.dropped} == {"classifier", "pooler"}
    assert kept(again, judge) == {"embedding", "layers"}


# ---- Hugging Face ------------------------------------------------------------------------------------------------


class Theirs(NamedTuple):
    kind: str
    classes: int | None  # of ours that answers the same
    output: str
    dropped: set[str]  # of their file


HEADS = [
    Theirs("BertForMaskedLM", None, "logits", set()),
    Theirs("BertForPreTraining", None, "prediction_logits", {"pooler", "next_sentence"}),
    Theirs("BertForSequenceClassification", 3, "logits", set()),
    Theirs("BertModel", 0, "pooler_output", set()),
]
every_head = pytest.mark.parametrize("theirs", HEADS, ids=[each.kind for each in HEADS])


def hugging_face(kind: str, ours: BERT, **others: Any) -> Any:
    """A net of the same sizes, in training mode without dropout."""
    transformers = pytest.importorskip("transformers", reason="transformers, of the test extra, is not installed")
    feed = ours.layers[0].feed.inner
    vocab_size, width = ours.embedding.tokens.weight.shape
    config = transformers.BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=len(ours.layers),
        num_attention_heads=ours.layers[0].attention.heads,
        intermediate_size=feed.out_features,
        max_position_embeddings=ours.context,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
        **others,
    )
    return getattr(transformers, kind)(config).train()


@every_head
def test_hugging_faces_outputs_and_gradients(theirs: Theirs, tmp_path: Path) -> None:
    ours, tokens = small(theirs.classes), padded_texts()
    reference = scrambled(hugging_face(theirs.kind, ours))
    reference.save_pretrained(tmp_path)
    report = load_weights(ours, tmp_path)
    assert report.source.endswith("(Hugging Face BERT)")
    assert report.percent == 100
    assert {name.partition(".")[0] for name in report.dropped} == theirs.dropped
    segments = torch.randint(2, tokens.shape)
    expected = reference(tokens, attention_mask=tokens != 0, token_type_ids=segments)[theirs.output]
    answer = ours(tokens, segments)
    where = tokens != 0 if theirs.classes is None else torch.ones(3, dtype=torch.bool)
    assert torch.allclose(answer[where], expected[where], rtol=1e-4, atol=1e-5)
    for each in (answer, expected):
        each[where].pow(2).mean().backward()
    their_gradients = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    _, gradients = ours.adopted(their_gradients)
    for name, parameter in ours.named_parameters():
        scale = gradients[name].abs().max()
        assert (parameter.grad - gradients[name]).abs().max() <= 1e-4 * scale + 1e-7, name


@every_head
@pytest.mark.parametrize("how", [{}, LARGE], ids=["base", "large"])
def test_hugging_faces_names_and_shapes(theirs: Theirs, how: dict[str, Any]) -> None:
    with torch.device("meta"):
        ours = BERT(**how, num_classes=theirs.classes)
        state = hugging_face(theirs.kind, ours).state_dict()
    layout, state = ours.adopted({name: value for name, value in state.items() if "decoder" not in name})
    assert layout == "Hugging Face BERT"
    shapes = {name: value.shape for name, value in state.items() if name.partition(".")[0] not in theirs.dropped}
    assert shapes == {name: value.shape for name, value in ours.state_dict().items()}


def test_old_names_buffers_and_prefixes(tmp_path: Path) -> None:
    ours = small()
    state = scrambled(hugging_face("BertForMaskedLM", ours)).state_dict()
    old = {
        "module."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in state.items()
    }
    old["module.bert.embeddings.position_ids"] = torch.arange(12)[None]
    torch.save(old, tmp_path / "old.bin")
    report = load_weights(ours, tmp_path / "old.bin")
    assert report.percent == 100
    assert not report.dropped + report.replaced
    assert torch.equal(ours.embedding.norm.bias, state["bert.embeddings.LayerNorm.bias"])
    _, bare = ours.adopted({name.removeprefix("bert."): value for name, value in state.items()})
    assert {name: value.shape for name, value in bare.items()} == {n: v.shape for n, v in ours.state_dict().items()}


def test_an_output_layer_of_its_own_is_refused(tmp_path: Path) -> None:
    ours = small()
    state = hugging_face("BertForMaskedLM", ours).state_dict()
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    torch.save(state, tmp_path / "untied.pt")
    with pytest.raises(UserError, match="unexpected: decoder"):
        load_weights(ours, tmp_path / "untied.pt")


def test_other_layouts_are_left_alone() -> None:
    net = small()
    for state in (net.state_dict(), {"roberta.embeddings.word_embeddings.weight": torch.zeros(40, 16)}):
        assert net.adopted(state) == ("", state)


@pytest.mark.slow
def test_bert_base_answers_as_hugging_faces(tmp_path: Path) -> None:
    ours = BERT(dropout=0.0)
    reference = hugging_face("BertForMaskedLM", ours)
    reference.save_pretrained(tmp_path)
    load_weights(ours, tmp_path)
    tokens = torch.randint(1, 30522, (2, 64))
    tokens[1, 40:] = 0
    with torch.no_grad():
        expected, answer = reference.eval()(tokens, attention_mask=tokens != 0).logits, ours.eval()(tokens)
    assert torch.allclose(answer[tokens != 0], expected[tokens != 0], rtol=1e-4, atol=1e-4)
