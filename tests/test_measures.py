"""Measures of what is made up: closed forms, known cases, and that they tell real digits from worse ones."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import linalg
from torch import Tensor

from dl_zoo.compose import compose
from dl_zoo.data.digits import Digits
from dl_zoo.errors import UserError
from dl_zoo.features import Features, Inception, named
from dl_zoo.measures.frechet import between_gaussians, frechet_distance, moments
from dl_zoo.measures.inception_score import inception_score
from dl_zoo.measures.modes import modes_covered
from dl_zoo.measures.nearest import nearness
from dl_zoo.measures.precision_recall import precision_recall
from dl_zoo.measures.predicted_classes import predicted_classes
from dl_zoo.run import run

CPU = torch.device("cpu")


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the distance --------------------------------------------------------------------------------------------------


def test_the_distance_of_diagonal_gaussians_is_the_formula() -> None:
    """|m - m'|^2 + sum of (s - s')^2: the root of a diagonal matrix is that of its elements."""
    means, deviations = draws(2, 30), draws(2, 30, seed=1).abs()
    by_hand = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    first, other = ((mean, deviation.square().diag()) for mean, deviation in zip(means, deviations, strict=True))
    assert between_gaussians(*first, *other) == pytest.approx(float(by_hand), rel=1e-9)


def test_the_distance_of_any_gaussians_is_that_by_a_matrix_root() -> None:
    pairs = [moments(draws(400, 12, seed=seed) @ draws(12, 12, seed=seed + 1)) for seed in (2, 4)]
    (mean, covariance), (other_mean, other) = pairs
    root = linalg.sqrtm(covariance.numpy() @ other.numpy()).real
    by_hand = (mean - other_mean).square().sum() + (covariance + other).trace() - 2 * root.trace()
    assert between_gaussians(*pairs[0], *pairs[1]) == pytest.approx(float(by_hand), rel=1e-8)


def test_singular_covariances_do_no_harm() -> None:
    """Five rows of forty features, of which ten are dead."""
    rows = draws(5, 40)
    rows[:, 30:] = 0
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows.flip(0)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows + 2) == pytest.approx(4 * 40)
    assert frechet_distance(rows, 3 * rows) == pytest.approx(
        float(moments(2 * rows)[1].trace() + rows.mean(0).mul(2).square().sum())
    )
    with pytest.raises(ValueError, match="it takes two"):
        moments(rows[:1])


def test_the_distance_of_draws_nears_that_of_their_gaussians() -> None:
    near, far = (draws(20_000, 3, seed=seed) for seed in (0, 1))
    assert frechet_distance(near, 2 * far + 1) == pytest.approx(3 + 3, rel=0.05)


# ---- scores --------------------------------------------------------------------------------------------------------


def test_the_score_goes_from_one_to_the_number_of_classes() -> None:
    sure = 50 * torch.eye(10)
    assert inception_score(sure) == pytest.approx(10)
    assert inception_score(sure[:3]) == pytest.approx(3)
    assert inception_score(torch.randn(10)[None].expand(7, 10)) == pytest.approx(1)
    logits = draws(50, 10).float()
    p = logits.double().softmax(1)
    by_hand = math.exp((p * (p / p.mean(0)).log()).sum(1).mean())
    assert inception_score(logits) == pytest.approx(by_hand)


def test_classes_that_are_seen_and_how_evenly() -> None:
    answers = torch.arange(10).repeat_interleave(torch.tensor([30, 30, 20, 10, 5, 3, 1, 1, 0, 0]))
    found = predicted_classes(9 * torch.eye(10)[answers])
    shares = answers.bincount()[:8] / len(answers)
    assert found["classes"] == 6  # two per cent and more
    assert found["entropy"] == pytest.approx(float(-(shares * shares.log()).sum()))
    assert found["confident"] == 1
    assert predicted_classes(torch.eye(10)[answers])["confident"] == 0


def test_precision_and_recall() -> None:
    cloud = draws(300, 8)
    assert precision_recall(cloud, cloud) == (1, 1)
    assert precision_recall(cloud, cloud + 100) == (0, 0)
    half = cloud[cloud[:, 0] > 0]
    precision, recall = precision_recall(cloud, half)
    assert precision == 1
    assert 0.4 < recall < 0.9  # what was dropped is missed, but for what is near the edge
    precision, recall = precision_recall(half, cloud)
    assert precision < 0.9
    assert recall == 1
    with pytest.raises(ValueError, match="no neighbour number 3"):
        precision_recall(cloud, cloud[:3])


def test_a_ball_reaches_to_the_third_other_point() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # from the ends 3, from within 2
    assert precision_recall(line, torch.tensor([[-3.0], [-3.1], [6.0], [6.1]]))[0] == 0.5


def test_copies_are_nearer_than_unseen_pictures() -> None:
    training, held_out, others = (
        torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    batches = [*training.split(64)]
    assert nearness(training[:50], held_out, batches) == 0
    assert nearness(others, held_out, batches) == pytest.approx(1, abs=0.1)
    assert nearness(others + 1, held_out, batches) > 2
    assert math.isnan(nearness(others, training, batches))
    least = torch.cdist(torch.cat([others, held_out]).flatten(1), training.flatten(1)).min(1).values
    assert nearness(others, held_out, batches) == pytest.approx(
        float(least[:200].mean() / least[200:].mean()), rel=1e-4
    )


def test_modes_count_from_twenty_good_samples_of_2500() -> None:
    modes = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    points = modes[torch.tensor([0] * 1981 + [1] * 20 + [2] * 19 + [0] * 480)].clone()
    points[-480:] += 0.31  # beyond three deviations
    assert modes_covered(points, modes, 0.1) == {"modes": 2, "high_quality": 2020 / 2500}
    assert modes_covered(points[:2020], modes, 0.1)["modes"] == 3  # of fewer samples fewer are asked
    assert modes_covered(points + 100, modes, 0.1) == {"modes": 0, "high_quality": 0}


# ---- features of a trained classifier ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Digits:
    """In LeNet's own size, so that its weights of MNIST see something like what they know."""
    data = Digits({"channels": 1}, image_size=20)
    data.setup()
    return data


def test_features_are_what_the_head_reads(digits: Digits) -> None:
    lenet = named("zoo:lenet5-mnist")
    pictures = digits.splits["test"][0][:7]
    features, logits = lenet(pictures, CPU)
    assert (lenet.name, features.shape, logits.shape) == ("lenet", (7, 84), (7, 10))
    assert torch.allclose(lenet.run.net.output(features), logits)
    framed = torch.nn.functional.pad(pictures, (6, 6, 6, 6))  # as MNIST's own get to 32
    assert torch.equal(lenet(framed, CPU)[0], features)
    assert torch.equal(lenet(torch.nn.functional.pad(framed, (9, 9, 9, 9)), CPU)[0], features)  # and larger ones


def test_the_distance_rises_as_digits_get_worse(digits: Digits) -> None:
    lenet = Features("zoo:lenet5-mnist")
    (known, classes), (real, _) = digits.splits["train"], digits.splits["test"]
    known, classes = known[:360], classes[:360]
    aim, noise = lenet(real, CPU)[0], torch.randn(known.shape, generator=torch.Generator().manual_seed(0))

    def distance(pictures: Tensor) -> float:
        return frechet_distance(lenet(pictures, CPU)[0], aim)

    noisy = [distance((known + level * noise).clamp(0, 255).byte()) for level in (0, 30, 60, 90)]
    dropped = [distance(known[classes < left]) for left in (10, 7, 4, 1)]
    assert all(after > 1.3 * before for worse in (noisy, dropped) for before, after in pairwise(worse))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "task.features=nowhere: nowhere: there is no such run folder or checkpoint"),
        ("zoo:lenet6", "task.features=zoo:lenet6: weights=zoo:lenet6: none ship"),
        ("zoo:gpt_char-tinyshakespeare", "is no classifier of pictures; zoo:lenet5-mnist is one"),
    ],
)
def test_what_is_no_classifier_is_told(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        named(source).load()


def test_pictures_of_other_channels_are_told() -> None:
    with pytest.raises(UserError, match=r"sees pictures of 1 channel\(s\), and these have 3"):
        named("zoo:lenet5-mnist")(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), CPU)


def test_inception_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.image import fid

    monkeypatch.setattr(fid, "_TORCH_FIDELITY_AVAILABLE", False)
    found = named("inception")
    assert isinstance(found, Inception)
    with pytest.raises(UserError, match="pip install torch-fidelity"):
        found.load()

    class Fake(torch.nn.Module):
        def __init__(self, name: str, features: list[str]):
            super().__init__()
            assert features == ["2048", "logits_unbiased"]

        def _torch_fidelity_forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            assert x.shape[1:] == (3, 8, 8)
            assert x.dtype == torch.uint8
            return torch.ones(len(x), 2048), torch.zeros(len(x), 1008)

    monkeypatch.setattr(fid, "NoTrainInceptionV3", Fake)
    features, logits = named("inception")(torch.zeros(120, 1, 8, 8, dtype=torch.uint8), CPU)
    assert (features.shape, logits.shape) == ((120, 2048), (120, 1008))


# ---- the probe -----------------------------------------------------------------------------------------------------


def test_the_probe_measures_disturbed_pictures() -> None:
    words = ["experiment=distance_probe", "data=digits", "trainer=cpu", "trainer.max_epochs=0", "logger=none"]
    found = run(compose([*words, "probe.fid_behaves.items=300"]), quiet=True).metrics
    levels = [found[f"probe/fid_behaves/classes/{i}"] for i in range(5)]
    assert levels == sorted(levels)
    steps = [math.log10(b / a) for a, b in pairwise(levels)]
    assert found["probe/fid_behaves/classes_step"] == pytest.approx(min(steps))
    assert found["probe/fid_behaves/floor"] == found["probe/fid_behaves/noise/0"] == found["probe/fid_behaves/blur/0"]
    assert 1 < found["probe/fid_behaves/is"] < 10
