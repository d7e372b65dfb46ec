"""Tagging: treebanks and their mistakes, the toy language, the tagger, its floor, and `predict` of sentences."""

import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Said, one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from dl_zoo import checkpoints
from dl_zoo.commands.evaluate import evaluate
from dl_zoo.commands.predict_tags import tags as tagged_lines
from dl_zoo.compose import compose
from dl_zoo.data.conllu import Conllu, parsed
from dl_zoo.data.tagged import PAD, UNK, Lexicon, TaggedLoader, rows
from dl_zoo.data.text import IGNORED
from dl_zoo.data.toy_tags import LEFT, POINTING, RIGHT, ToyTags, drawn
from dl_zoo.errors import UserError
from dl_zoo.models.bilstm_tagger import BiLSTMTagger
from dl_zoo.probes.most_frequent_tag import most_frequent_tag
from dl_zoo.run import Result, run
from dl_zoo.zoo import load_run

REAL = Path(os.environ.get("DL_ZOO_DATA", "data"))
has_partut = pytest.mark.skipif(not (REAL / "ud_partut").is_dir(), reason="no ud_partut in DL_ZOO_DATA")
UPOS, XPOS = 3, 4
SMALL = ["trainer=cpu", "trainer.max_epochs=1", "model.width=8", "model.embedding=8", "data.batch_size=2"]


def line(number: str, word: str, upos: str = "_", xpos: str = "_") -> str:
    return "\t".join([number, word, word.lower(), upos, xpos, *"_" * 5])


def sentence(*pairs: tuple[str, str]) -> str:
    return "".join(line(str(n), word, tag, tag[0]) + "\n" for n, (word, tag) in enumerate(pairs, 1)) + "\n"


TRAIN = sentence(("The", "DET"), ("dog", "NOUN"), ("walks", "VERB"), (".", "PUNCT"))
TRAIN += sentence(("A", "DET"), ("walk", "NOUN")) + sentence(("They", "PRON"), ("walk", "VERB"), (".", "PUNCT"))
TRAIN += sentence(("the", "DET"), ("walk", "NOUN"), ("ends", "VERB"))
VAL = sentence(("The", "DET"), ("walk", "NOUN"), ("*", "SYM")) + sentence(
    ("They", "PRON"),
)
TEST = sentence(("A", "DET"), ("cat", "NOUN"), ("walks", "VERB"), (".", "PUNCT")) + sentence(
    ("Dogs", "NOUN"),
)


@pytest.fixture
def treebank(tmp_path: Path) -> Path:
    folder = tmp_path / "treebank"
    folder.mkdir()
    for end, text in {"train": TRAIN, "dev": VAL, "test": TEST}.items():
        (folder / f"own-ud-{end}.conllu").write_text(text, encoding="utf-8")
    return folder


# ---- CoNLL-U -----------------------------------------------------------------------------------------------------


def test_what_a_file_says() -> None:
    """Comments, ranges and words that are not there are passed over; white lines and their kinds end a sentence."""
    text = "\r\n".join(
        [
            "# text = Don't",
            line("1-2", "Don't"),
            line("1", "Do", "AUX", "MD"),
            line("2", "n't", "PART", "RB"),
            line("2.1", "go", "VERB", "VB"),
            "# in the midst",
            line("3", "3 000", "NUM", "_"),
            " ",
            "",
            line("0.1", "this"),
            line("1", "#", "SYM", "#"),
        ]
    )
    assert list(parsed(text, UPOS, "")) == [(["Do", "n't", "3 000"], ["AUX", "PART", "NUM"]), (["#"], ["SYM"])]
    assert [tags for _, tags in parsed(text, XPOS, "")] == [["MD", "RB", ""], ["#"]]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("1\tThe\tthe\tDET", "4 columns between tabs, where CoNLL-U has 10"),
        ("The", "1 column between tabs, where CoNLL-U has 10"),
        (line("1", "The", "DET") + "\t_", "11 columns between tabs, where CoNLL-U has 10"),
        (line("1", "The", "DET").replace("\t", " "), "1 column between tabs, where CoNLL-U has 10"),
        (line("one", "The", "DET"), "'one' is no id; ids are such as 3, 3-4 or 3.1"),
        (line("-1", "The", "DET"), "'-1' is no id; ids are such as 3, 3-4 or 3.1"),
        (line("2", "The", "DET"), "id 2, where 1 is the next of this sentence"),
        (line("1", "", "DET"), "a word, or its tag, is empty; an unknown one is _"),
        (line("1", "The", ""), "a word, or its tag, is empty; an unknown one is _"),
    ],
)
def test_a_bad_line_is_named(wrong: str, why: str, treebank: Path, cli: Callable[..., Said]) -> None:
    file = treebank / "own-ud-dev.conllu"
    file.write_text(f"{VAL}# a comment\n{wrong}\n", encoding="utf-8")
    said = one_line(cli("train", "model=bilstm_tagger", "data=conllu", f"data.path={treebank}", *SMALL))
    assert said == f"dl-zoo: {file}, line 8: {why}"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda folder: (folder / "own-ud-test.conllu").write_text(""),
            r"test\.conllu: has no sentence; a word a line",
        ),
        (lambda folder: (folder / "own-ud-test.conllu").write_text("# nothing\n\n"), r"has no sentence"),
        (lambda folder: (folder / "own-ud-dev.conllu").unlink(), r"one file must end in -dev\.conllu, and it has none"),
        (
            lambda folder: (folder / "b-train.conllu").write_text(TRAIN),
            r"-train\.conllu, and it has 2, b-train\.conllu and own-ud-train\.conllu among them",
        ),
        (lambda folder: folder.rename(folder.parent / "moved"), r"treebank: there is no such folder"),
        (
            lambda folder: (folder / "own-ud-dev.conllu").write_text(line("1", "a")),
            r"dev\.conllu: its words have no UPOS; data\.tags=xpos",
        ),
        (
            lambda folder: (folder / "own-ud-dev.conllu").write_bytes(line("1", "café", "NOUN").encode("latin-1")),
            r"dev\.conllu: byte 5 \(0xe9, in line 1\) is not UTF-8",
        ),
    ],
)
def test_bad_treebanks(spoil: Callable[[Path], Any], why: str, treebank: Path) -> None:
    spoil(treebank)
    with pytest.raises(UserError, match=why) as error:
        Conllu({}, path=str(treebank)).setup()
    assert len(error.value.lines) == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"tags": "pos"}, r"data\.tags=pos: must be upos or xpos"),
        ({"min_freq": 0}, r"data\.min_freq=0: must be at least 1"),
        ({"word_length": 1.5}, r"data\.word_length=1\.5: must be a whole number"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        Conllu({}, **wrong)


# ---- what words are known by -------------------------------------------------------------------------------------


def test_the_vocabulary_is_trainings_alone(treebank: Path) -> None:
    data = Conllu({}, path=str(treebank), min_freq=2)
    data.setup()
    assert data.lexicon is not None
    assert data.lexicon.words == ("walk", ".", "the"), "in lower case, twice or more, the most frequent first"
    assert "*" not in data.lexicon.characters
    assert "c" not in data.lexicon.characters
    assert data.classes == ["DET", "NOUN", "PRON", "PUNCT", "SYM", "VERB"], "of all splits"
    ((words, characters, lengths), targets) = next(iter(data.loader("val")))
    assert words.tolist() == [[4, 2, UNK], [UNK, PAD, PAD]]
    assert targets.tolist() == [[0, 1, 4], [2, IGNORED, IGNORED]]
    assert lengths.tolist() == [3, 1]
    assert characters.shape == (2, 3, 20)
    assert (characters[1, 1:] == PAD).all()
    assert characters[0, 2].tolist() == [UNK, *[PAD] * 19]
    assert data.dims == {"words": 5, "characters": 18, "word_length": 20, "num_classes": 6, "pad_id": 0}


def test_a_vocabulary_comes_back_from_its_plain_form(treebank: Path) -> None:
    one, other = Conllu({}, path=str(treebank)), Conllu({}, path=str(treebank), min_freq=3, lowercase=False)
    one.setup()
    other.vocabulary = one.vocabulary
    other.setup()
    assert other.lexicon == one.lexicon, "the checkpoint's, whatever the settings say"
    (treebank / "own-ud-test.conllu").write_text(sentence(("Oh", "INTJ")))
    third = Conllu({}, path=str(treebank))
    third.vocabulary = one.vocabulary
    with pytest.raises(UserError, match="tag 'INTJ' is none of the 6 that these weights know"):
        third.setup()


@pytest.mark.parametrize("plain", [{"kind": "words", "symbols": ["a"]}, {"kind": "tags", "words": ["a"]}])
def test_a_vocabulary_of_another_kind(plain: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        Lexicon.restored(plain)


def test_capitals_are_in_the_spelling() -> None:
    low, high = (Lexicon.fitted([["Walk", "walk"]], ["X"], lowercase=each) for each in (True, False))
    assert low.word_ids(["Walk", "walk", "WALK"]) == [2, 2, 2]
    assert high.word_ids(["Walk", "walk", "WALK"]) == [2, 3, UNK]
    assert low.spelling("Walk") != low.spelling("walk")


def test_words_without_a_tag_do_not_count(treebank: Path) -> None:
    (treebank / "own-ud-dev.conllu").write_text(line("1", "The", "DET") + "\n" + line("2", "walk"))
    data = Conllu({}, path=str(treebank))
    data.setup()
    assert data.splits["val"].targets.tolist() == [0, IGNORED]


# ---- batches -----------------------------------------------------------------------------------------------------


def of_lengths(*lengths: int) -> Any:
    """Sentence i says the word i, over and over."""
    said = [([str(i)] * length, ["X"] * length) for i, length in enumerate(lengths)]
    return rows(said, Lexicon(tuple(map(str, range(len(lengths)))), "0123456789", ("X",), 2, True))


def test_a_pass_has_every_sentence_once_beside_its_like() -> None:
    lengths = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    loader = TaggedLoader(of_lengths(*lengths), batch_size=4, shuffle=True, seed=0)
    passes = [[(words[:, 0] - 2).tolist() for (words, _, _), _ in loader] for _ in range(2)]
    assert passes[0] != passes[1]
    for each in passes:
        assert sorted(i for batch in each for i in batch) == list(range(10))
        assert sorted(sorted(lengths[i] for i in batch) for batch in each) == [[1, 1, 2, 3], [3, 4, 5, 5], [6, 9]]
    for (words, characters, told), targets in loader:
        assert words.shape == targets.shape == characters.shape[:2] == (len(told), told.max())
        inside = torch.arange(words.shape[1]) < told[:, None]
        assert torch.equal(words != PAD, inside)
        assert torch.equal(targets == 0, inside)
        assert torch.equal(targets == IGNORED, ~inside)
        assert torch.equal((characters != PAD).any(2), inside)
    in_order = TaggedLoader(of_lengths(*lengths), batch_size=4, shuffle=False, seed=0)
    assert [told.tolist() for (_, _, told), _ in in_order] == [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3]]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_a_pass(world: int) -> None:
    sentences = of_lengths(*range(1, 12))
    for shuffle in (True, False):
        ranks = [
            TaggedLoader(sentences, batch_size=4, shuffle=shuffle, seed=0, rank=rank, world_size=world)
            for rank in range(world)
        ]
        seen = [[int(i) for (words, _, _), _ in each for i in words[:, 0] - 2] for each in ranks]
        everyone = sorted(i for some in seen for i in some)
        assert len(set(everyone)) == len(everyone) == (11 - 3 % world if shuffle else 11)
        assert not shuffle or len({len(each) for each in ranks}) == 1
    with pytest.raises(UserError, match=r"data\.batch_size=1: fewer than one item"):
        TaggedLoader(sentences, batch_size=1, shuffle=True, seed=0, world_size=world)


def test_going_on_within_a_pass() -> None:
    def loader() -> TaggedLoader:
        return TaggedLoader(of_lengths(*range(1, 12)), batch_size=3, shuffle=True, seed=1)

    one, other = loader(), loader()
    whole = [words for (words, _, _), _ in one]
    other.load_state_dict({"epoch": 0, "batch": 2})
    rest = [words for (words, _, _), _ in other]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


# ---- the toy language --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy() -> ToyTags:
    data = ToyTags({}, word_length=10)
    data.setup()
    return data


def test_both_neighbours_decide_and_one_does_not(toy: ToyTags) -> None:
    both: dict[Any, set[str]] = defaultdict(set)
    past: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    following: dict[Any, set[str]] = defaultdict(set)
    for words, tags in toy.said["train"]:
        framed = ["", *words, ""]
        for at, tag in enumerate(tags):
            both[tuple(framed[at : at + 3])].add(tag)
            past[tuple(words[: at + 1])][tag] += 1
            following[tuple(framed[at + 1 : at + 3])].add(tag)
    assert all(len(tags) == 1 for tags in both.values())
    assert {words[0] for words, tags in following.items() if len(tags) > 1} == set(LEFT)
    torn = {words[-1] for words, tags in past.items() if len(tags) > 1}
    assert torn == {*RIGHT, *POINTING}, "whoever knows all the past can but guess there"
    total = sum(sum(tags.values()) for tags in past.values())
    wrong = sum(sum(tags.values()) - max(tags.values()) for tags in past.values())
    assert wrong / total > 0.01, "even if it knew every sentence of training"


def test_splits_are_draws_of_their_own(toy: ToyTags) -> None:
    assert [len(toy.said[split]) for split in ("train", "val", "test")] == [2000, 500, 500]
    assert toy.said["val"] != toy.said["test"] != toy.said["train"][:500]
    again = ToyTags({}, word_length=10, seed=5, train_items=7)
    again.setup()
    assert again.said["train"] == toy.said["train"][:7], "whatever the seed of a run"
    assert toy.dims == {"words": 40, "characters": 27, "word_length": 10, "num_classes": 8, "pad_id": 0}


# ---- the floor ---------------------------------------------------------------------------------------------------


def test_the_floor_by_hand(treebank: Path) -> None:
    """a DET; cat, unknown: NOUN, DET and VERB are three each, and DET came first; walks VERB, . PUNCT; dogs: DET."""
    data = Conllu({}, path=str(treebank))
    data.setup()
    assert most_frequent_tag(None, data) == {"most_frequent_tag": 3 / 5, "most_frequent_tag/unknown": 2 / 5}


@has_partut
def test_the_floor_of_partut() -> None:
    data = Conllu({}, data_dir=str(REAL), min_freq=2)
    assert data.absent() == []
    data.setup()
    assert {split: len(data.splits[split].words) for split in data.splits} == {
        "train": 43504,
        "val": 2722,
        "test": 3408,
    }
    assert data.sizes == Conllu({}).sizes
    assert len(data.classes) == 17
    found = most_frequent_tag(None, data)
    assert found["most_frequent_tag"] == 3041 / 3408  # 89.23 %
    assert found["most_frequent_tag/unknown"] == 256 / 3408  # 7.5 %


# ---- the net -----------------------------------------------------------------------------------------------------


def made(**others: Any) -> BiLSTMTagger:
    torch.manual_seed(0)
    sizes = {"words": 20, "characters": 12, "num_classes": 5, "width": 8, "embedding": 6, "dropout": 0.0}
    return BiLSTMTagger(**sizes | others).double()


def sentences() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    lengths = torch.tensor([4, 7, 1])
    inside = torch.arange(7) < lengths[:, None]
    spelled = torch.randint(2, 12, (3, 7, 5)) * (torch.arange(5) < torch.randint(1, 6, (3, 7, 1)))
    return torch.randint(1, 20, (3, 7)) * inside, spelled * inside[:, :, None], lengths


@pytest.mark.parametrize("shape", [{}, {"depth": 2}, {"bidirectional": False}, {"spelling": False}])
def test_padding_changes_nothing(shape: dict[str, Any]) -> None:
    """However much of it, behind sentences and behind words; and every sentence by itself says the same."""
    net, (words, characters, lengths) = made(**shape), sentences()
    logits, state = net(words, characters, lengths)
    wider = torch.nn.functional.pad(words, (0, 3)), torch.nn.functional.pad(characters, (0, 4, 0, 3))
    others, end = net(*wider, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone, _ = net(words[i : i + 1, :length], characters[i : i + 1, :length])
        assert torch.allclose(logits[i, :length], others[i, :length], atol=1e-12)
        assert torch.allclose(logits[i, :length], alone[0], atol=1e-12)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(state, end, strict=True))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_who_sees_later_words(bidirectional: bool) -> None:
    net, (words, characters, _) = made(bidirectional=bidirectional), sentences()
    other = words.clone()
    other[:, 4] = (words[:, 4] + 1) % 20
    changed = (net(words, characters)[0] != net(other, characters)[0]).any(2).any(0)
    assert changed.tolist() == [bidirectional] * 4 + [True] * 3


def test_width_is_of_all_directions() -> None:
    both, forwards = made(), made(bidirectional=False)
    assert both.head.weight.shape == forwards.head.weight.shape == (5, 8)
    _, (h, c) = both(*sentences())
    assert h.shape == c.shape == (3, 2, 4)
    assert forwards(*sentences())[1][0].shape == (3, 1, 8)


def test_spelling_is_a_switch_and_knows_places() -> None:
    net, (words, characters, _) = made(), sentences()
    backwards = characters.flip(2)
    assert (net(words, characters)[0] != net(words, backwards)[0]).any(), "windows know the order of characters"
    without = made(spelling=False)
    assert torch.equal(without(words, characters)[0], without(words, backwards)[0])


def test_spelling_by_hand() -> None:
    net = made(window=3).spelling
    assert net is not None
    ids = torch.tensor([[[3, 4, 0, 0]]])
    zero, a, b = torch.zeros(30, dtype=torch.float64), *net.embedding.weight[[3, 4]]
    windows = [torch.stack(each, 1) for each in ((zero, a, b), (a, b, zero))]
    answers = [(net.filters.weight * window).sum((1, 2)) + net.filters.bias for window in windows]
    assert torch.allclose(net(ids)[0, 0], torch.maximum(*answers))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"width": 7}, "multiple of the 2 directions"),
        ({"width": 0}, "width=0"),
        ({"window": 2}, "window=2 must be odd"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made(**wrong)


# ---- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of the toy language, learnt well."""
    folder = tmp_path_factory.mktemp("tagger")
    words = ["model=bilstm_tagger", "trainer=cpu", "trainer.max_epochs=3", "model.width=32", "model.embedding=32"]
    words += ["model.dropout=0.1", "optimizer.lr=0.02", "data.train_items=800", "data.eval_items=100"]
    return run(compose([*words, "probe=[most_frequent_tag]", f"run_dir={folder / 'run'}"]), quiet=True)


def test_it_learns_what_the_floor_cannot_know(tagger: Result) -> None:
    assert tagger.metrics["test/acc"] > 0.97
    assert 0.85 < tagger.metrics["probe/most_frequent_tag"] < 0.95
    assert tagger.metrics["probe/most_frequent_tag/unknown"] == 0
    again, _ = evaluate(tagger.folder, "test")
    assert again["test/acc"] == pytest.approx(tagger.metrics["test/acc"])


def test_the_vocabulary_travels(tagger: Result) -> None:
    kept = checkpoints.read(checkpoints.find(tagger.folder, "best"))["dl_zoo"]
    assert kept["vocabulary"]["kind"] == "tags"
    assert kept["classes"] == kept["vocabulary"]["tags"]
    assert kept["dims"] == {"words": 40, "characters": 27, "word_length": 10, "num_classes": 8, "pad_id": 0}


def test_tags_are_drawn(tagger: Result) -> None:
    events = EventAccumulator(str(tagger.folder), size_guidance={"tensors": 0}).Reload()
    shown = events.Tensors("samples/tags/text_summary")
    assert len(shown) == 3
    texts = [each.tensor_proto.string_val[0].decode() for each in shown]
    assert all(len(text.split("\n\n")) == 8 for text in texts)
    said = zip(*drawn(1, 1)[0], strict=True)
    assert texts[-1].split("\n\n")[0] == " ".join(f"{word}/{tag}" for word, tag in said)


def test_predict(tagger: Result, cli: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("THE light box fades .\n\n  the light fades .\nthey walk §\n", encoding="utf-8")
    said = cli("predict", str(tagger.folder), "some.txt")
    assert (said.code, said.err) == (0, "")
    assert said.out.split("\n")[:3] == [
        "THE/DET light/ADJ box/NOUN fades/VERB ./PUNCT",
        "",
        "the/DET light/NOUN fades/VERB ./PUNCT",
    ]
    assert said.out.split("\n")[3].startswith("they/PRON walk/VERB §/")
    written = cli("predict", str(tagger.folder), "some.txt", "--output", "found")
    assert written.out == "written      found/some.tags.txt\n"
    assert (tmp_path / "found/some.tags.txt").read_text(encoding="utf-8") == said.out
    (tmp_path / "some.txt").write_text("\n \n")
    said = one_line(cli("predict", str(tagger.folder), "some.txt"))
    assert said == "dl-zoo: none of the lines holds text; nothing is predicted"


def test_predictions_are_those_of_evaluation(tagger: Result) -> None:
    """Lines of all lengths together, in their order, tagged as the loader's batches are."""
    loaded = load_run(tagger.folder)
    loaded.data.setup()
    said = loaded.data.said["test"]
    lines = tagged_lines(loaded.task, loaded.data.vocabulary, [words for words, _ in said])
    pairs = [pair for line, (_, tags) in zip(lines, said, strict=True) for pair in zip(line.split(), tags, strict=True)]
    right = sum(one.rsplit("/", 1)[1] == tag for one, tag in pairs)
    assert right / len(pairs) == pytest.approx(tagger.metrics["test/acc"])


def test_misuse_is_one_line(tagger: Result, cli: Callable[..., Said], tmp_path: Path) -> None:
    assert "there is no such file" in one_line(cli("predict", str(tagger.folder), "missing.txt"))
    assert "sample knows no other models of text" in one_line(cli("sample", str(tagger.folder), "--prompt", "the"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert "is not UTF-8" in one_line(cli("predict", str(tagger.folder), "latin.txt"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["model=gpt_char", "task=tagging", "data=conllu"], "model=gpt_char needs context and vocab_size"),
        (["model=lstm", "task=tagging", "data=toy_tags", "model.read=all"], "needs input_size or vocab_size"),
        (["model=bilstm_tagger", "data=sort"], "model=bilstm_tagger needs characters and words"),
        (
            ["model=bilstm_tagger", "task=language_modelling"],
            "tags the words of sentences, and task=language_modelling is of texts",
        ),
        (["model=bilstm_tagger", "probe=[ngram]", *SMALL], "it reads one long text, which these data are not"),
        (["model=bilstm_tagger", "model.width=7", "trainer=cpu"], "width=7 must be a multiple of the 2 directions"),
    ],
)
def test_what_does_not_go_together(words: list[str], why: str, cli: Callable[..., Said]) -> None:
    assert why in one_line(cli("train", *words))


def test_the_floor_needs_sentences(cli: Callable[..., Said]) -> None:
    said = one_line(cli("train", "model=softmax_regression", "probe=[most_frequent_tag]", "trainer=cpu"))
    assert "most_frequent_tag: it reads sentences with tags, which these data are not; take data=conllu" in said


def test_a_treebank_of_ones_own(treebank: Path, cli: Callable[..., Said]) -> None:
    done = cli("train", "model=bilstm_tagger", "data=conllu", f"data.path={treebank}", "data.tags=xpos", *SMALL)
    assert done.code == 0, done.err


# ---- the official files ------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.files[self.path.strip("/")]  # type: ignore[attr-defined]
        self.server.gets.append(self.path.strip("/"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serves small files, and makes them the originals."""
    texts = dict(zip(Conllu.digests, (text.encode() for text in (TRAIN, VAL, TEST)), strict=True))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.daemon_threads = True
        one.files, one.gets = texts, []  # type: ignore[attr-defined]
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(Conllu, "addresses", [f"http://127.0.0.1:{one.server_port}/"])
        monkeypatch.setattr(Conllu, "digests", {name: hashlib.sha256(t).hexdigest() for name, t in texts.items()})
        yield one
        one.shutdown()


def test_download(server: Any, tmp_path: Path) -> None:
    data = Conllu({}, data_dir=str(tmp_path))
    data.setup()
    assert sorted(path.name for path in (tmp_path / "ud_partut").iterdir()) == sorted(Conllu.digests)
    assert len(data.said["test"]) == 2
    Conllu({}, data_dir=str(tmp_path)).setup()
    assert len(server.gets) == 3, "what is there is not downloaded again"
    (tmp_path / "ud_partut/en_partut-ud-dev.conllu").write_text("something else\n")
    with pytest.raises(UserError, match=r"dev\.conllu is damaged .*: delete it to download it again"):
        Conllu({}, data_dir=str(tmp_path)).setup()


def test_what_cannot_be_had_is_one_line(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Conllu.digests, "en_partut-ud-test.conllu", "0" * 64)
    with pytest.raises(UserError, match=r"conllu: expected .*test\.conllu has another SHA-256") as error:
        Conllu({}, data_dir=str(tmp_path)).setup()
    assert len(error.value.lines) == 1
    assert str(error.value).endswith("data=toy_tags runs without a download")
