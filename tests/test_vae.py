"""Autoencoders and variational ones: their layers, the bound against known answers, runs, probes, and refusals."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import Said, one_line, trained
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dl_zoo import create_model, create_module, load_run, trust
from dl_zoo.compose import compose
from dl_zoo.errors import UserError
from dl_zoo.models.autoencoder import Autoencoder
from dl_zoo.models.vae import VAE as Net
from dl_zoo.models.vae_conv import ConvolutionalVAE
from dl_zoo.probes.anomaly import anomaly, held_out
from dl_zoo.probes.bounds import bounds
from dl_zoo.probes.principal import principal
from dl_zoo.probes.reparameterised import of_pictures, reparameterised
from dl_zoo.tasks.autoencoding import Autoencoding
from dl_zoo.tasks.evidence import divergence, log_bernoulli, log_mean, log_ratio, of_evaluation
from dl_zoo.tasks.generating import own_noise
from dl_zoo.tasks.vae import VAE

SMALL = {"in_features": 16, "width": 8, "latents": 3}
PIXELS = {"mean": [0.0], "std": [1.0]}  # pictures that are in 0..1 already


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def task_of(net: nn.Module | None = None, **settings: Any) -> VAE:
    return VAE(net or Net(**SMALL), torch.optim.Adam, **(PIXELS | settings))


def pictures(items: int = 6) -> Tensor:
    return torch.rand(items, 1, 4, 4)


class Pictures:
    """Pictures of a line that is upright in one class and lying in the other, as data for probes."""

    def __init__(self, items: int = 40):
        self.targets = torch.arange(items) % 2
        self.inputs = torch.zeros(items, 1, 4, 4)
        for item, target in enumerate(self.targets):
            lines = self.inputs[item, 0] if target else self.inputs[item, 0].T
            lines[item // 2 % 4] = 0.9

    def loader(self, split: str) -> Any:
        return zip(self.inputs.split(16), self.targets.split(16), strict=True)


# ---- nets ----------------------------------------------------------------------------------------------------------


def shapes(net: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in net.named_parameters() if name.endswith("weight")]


def test_layers_of_the_papers() -> None:
    with torch.device("meta"):
        assert shapes(create_model("vae")) == [
            ("encoder.0.weight", (400, 784)),
            ("mean.weight", (20, 400)),
            ("log_variance.weight", (20, 400)),
            ("decoder.0.weight", (400, 20)),
            ("reconstruction.weight", (784, 400)),
        ]
        deep = create_model("iwae")
        assert [shape for _, shape in shapes(deep)] == [
            *[(200, 784), (200, 200), (50, 200), (50, 200)],
            *[(200, 50), (200, 200), (784, 200)],
        ]
        assert [type(layer) for layer in deep.encoder] == [nn.Linear, nn.Tanh] * 2
        narrow = [shape for _, shape in shapes(create_model("autoencoder"))]
        widths = [784, 1000, 500, 250, 30, 250, 500, 1000, 784]
        assert narrow == [(after, before) for before, after in pairwise(widths)]
        assert type(create_model("autoencoder").code) is nn.Linear, "the code is linear"
        convolutional = create_model("vae_conv")
    layers = [m for m in convolutional.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [(1, 32), (32, 32), (32, 32), (32, 1)]
    assert all((m.kernel_size, m.stride, m.padding) == ((4, 4), (2, 2), (1, 1)) for m in layers)
    assert type(convolutional.reconstruction[-1]) is nn.ConvTranspose2d, "logits"


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", ["vae", "vae_conv"])
def test_what_a_net_gives(name: str, conditional: bool) -> None:
    net = create_model(name, in_features=192, channels=3, num_classes=5, conditional=conditional)
    x, classes = torch.rand(2, 3, 8, 8), torch.tensor([4, 0]) if conditional else None
    noise = torch.randn(2, net.latents)
    logits, mean, log_variance = net(x, classes, noise)
    assert logits.shape == x.shape
    assert mean.shape == log_variance.shape == noise.shape
    assert torch.equal(mean, net.encode(x, classes)[0])
    z = mean + log_variance.exp().sqrt() * noise
    torch.testing.assert_close(logits, net.decode(z, classes))
    several = net(x, classes, torch.stack([noise, torch.zeros_like(noise)]))[0]
    torch.testing.assert_close(several[0], logits)
    torch.testing.assert_close(several[1], net.decode(mean, classes))
    assert not torch.equal(net(x, classes)[0], net(x, classes)[0]), "noise of its own where none is given"
    if conditional:
        torch.testing.assert_close(net.decode(z, classes), net.decode(z, torch.eye(5)[[4, 0]]))
        assert not torch.allclose(net.decode(z, classes), net.decode(z, classes.flip(0)))
        torch.testing.assert_close(net.decode(z), net.decode(z, torch.full((2, 5), 0.2)))


def test_sizes_that_nets_cannot_make() -> None:
    with pytest.raises(ValueError, match="6 pixels cannot be halved 2 times"):
        ConvolutionalVAE(in_features=36)
    assert ConvolutionalVAE(in_features=36, depth=1)(torch.rand(1, 1, 6, 6))[0].shape == (1, 1, 6, 6)
    with pytest.raises(ValueError, match="no square picture"):
        Net(in_features=785)
    with pytest.raises(ValueError, match="no classes"):
        Net(num_classes=None, conditional=True)
    with pytest.raises(ValueError, match="activation='rely' is not one of"):
        Autoencoder(activation="rely")


# ---- the bound -----------------------------------------------------------------------------------------------------


def test_divergence_in_closed_form_is_that_of_draws() -> None:
    mean, log_variance = torch.randn(5, 4), torch.randn(5, 4)
    closed = divergence(mean, log_variance)
    known = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(closed, known)
    drawn = -log_ratio(torch.randn(200_000, 5, 4), mean, log_variance).mean(0)
    torch.testing.assert_close(drawn, closed, rtol=0.01, atol=0)


def test_bernoulli_of_grey_values() -> None:
    x, logits = torch.rand(2, 1, 2, 2), torch.randn(3, 2, 1, 2, 2)
    p = logits.sigmoid()
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((2, 3, 4))
    torch.testing.assert_close(log_bernoulli(x, logits), expected)


def linear_gaussian() -> tuple[VAE, Tensor, Tensor]:
    """p(x) = N(0, W W' + s^2), whose posterior is known; the columns of W are at right angles, so it has no covariance.

    Task, pictures (8, 1, 2, 2), and their log density (8,).
    """
    net, deviation = Net(in_features=4, depth=0, latents=2), 0.5
    w = torch.linalg.qr(torch.randn(4, 2))[0] * torch.tensor([2.0, 0.7])
    variance = 1 / (1 + w.square().sum(0) / deviation**2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.reconstruction.weight.copy_(w)
        net.mean.weight.copy_(variance[:, None] * w.T / deviation**2)
        net.log_variance.bias.copy_(variance.log())
    x = torch.randn(8, 2) @ w.T + deviation * torch.randn(8, 4)
    exact = MultivariateNormal(torch.zeros(4), w @ w.T + deviation**2 * torch.eye(4)).log_prob(x)
    return task_of(net, mean=None, std=None, likelihood="gaussian", deviation=deviation), x.view(8, 1, 2, 2), exact


def test_bound_is_exact_where_the_posterior_is() -> None:
    task, x, exact = linear_gaussian()
    for k in (1, 7):  # every importance weight is p(x) itself
        torch.testing.assert_close(task.likelihoods(x, k), exact, rtol=1e-4, atol=1e-4)
    task.importance_samples = 20_000
    found = task.measure((x, None))
    torch.testing.assert_close(found.sums["elbo"], exact.sum(), rtol=0.01, atol=0)
    with torch.no_grad():
        task.net.mean.bias.add_(0.3)  # a posterior that is off makes the bound loose, and more codes mend it
    loose = [float(task.likelihoods(x, k).mean() - exact.mean()) for k in (1, 10, 2000)]
    assert loose[0] < loose[1] - 0.05 < loose[2] - 0.05
    assert abs(loose[2]) < 0.1


def test_one_importance_sample_is_the_evidence_bound() -> None:
    task = task_of(bound="iwae")
    with torch.no_grad():
        task.net.log_variance.bias.fill_(-2)
    x, n = pictures(1), 40_000
    task.importance_samples = n  # so many draws of one picture: L_1 is the mean of their log weights
    found = task.measure((x, None))
    weights = task.log_weights(x, torch.randn(n, 1, 3), None)
    assert abs(weights.mean() / found.sums["elbo"] - 1) < 0.01
    assert found.sums["iwae"] > found.sums["elbo"]
    torch.testing.assert_close(found.loss, -found.sums["iwae"])
    assert log_mean(weights[:1]) == weights[0]


def test_beta_weighs_the_loss_alone() -> None:
    x = pictures()
    losses = {}
    for beta in (0.0, 1.0, 4.0):
        task = task_of(Net(**SMALL), beta=beta)
        torch.manual_seed(3)
        for parameter in task.net.parameters():
            nn.init.normal_(parameter, std=0.3)
        task.eval()
        found = task.measure((x, None))
        losses[beta] = found
        cost = found.sums["reconstruction"] + beta * found.sums["kl"]
        torch.testing.assert_close(found.loss.detach(), cost / len(x))
    elbos = {round(float(found.sums["elbo"]), 4) for found in losses.values()}
    assert len(elbos) == 1
    assert losses[4.0].loss > losses[1.0].loss > losses[0.0].loss


def test_the_likelihood_does_not_depend_on_how_many_codes_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    task, x = task_of(), pictures()
    whole = task.likelihoods(x, 50)
    monkeypatch.setattr("dl_zoo.tasks.vae.NUMBERS", 3 * x.numel())
    torch.testing.assert_close(task.likelihoods(x, 50), whole)
    assert not torch.equal(task.likelihoods(x, 50, index=1), whole)


def test_noise_of_evaluation_is_the_batchs_own() -> None:
    task, x = task_of(binarize=True).eval(), pictures()
    assert torch.equal(task.measure((x, None)).loss, task.measure((x, None)).loss)
    assert set(task.shown(x).unique().tolist()) == {0.0, 1.0}
    task.train()
    assert not torch.equal(task.measure((x, None)).loss, task.measure((x, None)).loss)
    often = torch.stack([task.shown(x) for _ in range(2000)]).mean(0)
    assert (often - x).abs().max() < 0.06, "the grey value is how often a pixel is white"
    normalised = task_of(mean=[0.3], std=[0.5])
    torch.testing.assert_close(normalised.shown((x - 0.3) / 0.5), x)


def test_draws_of_an_evaluation_have_a_purpose_each() -> None:
    pixels, codes = (torch.randn(4, 3, generator=of_evaluation(purpose, 7)) for purpose in ("pixels", "codes"))
    bound = own_noise((4, 3), 7, torch.device("cpu"))
    assert not any(torch.equal(*pair) for pair in ((pixels, codes), (pixels, bound), (codes, bound)))
    assert torch.equal(codes, torch.randn(4, 3, generator=of_evaluation("codes", 7)))


def test_sums_over_latents_are_not_rounded_to_bfloat16() -> None:
    mean, log_variance = torch.randn(2, 8, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = divergence(mean.double(), log_variance.double())
    assert (divergence(mean, log_variance) - exact).abs().max() < 1e-4


# ---- made up -------------------------------------------------------------------------------------------------------


def test_what_is_made_up_and_said_again() -> None:
    task, plain = task_of(Net(**SMALL, num_classes=2, conditional=True)).train(), task_of()
    noise = task.noise(5, torch.Generator().manual_seed(1))
    assert torch.equal(noise, task.noise(5, torch.Generator().manual_seed(1)))
    ones = torch.ones(5, dtype=torch.int64)
    made = task.generate(noise, ones)
    assert made.shape == (5, 1, 4, 4)
    assert made.min() >= 0
    assert made.max() <= 1
    assert not made.requires_grad
    assert task.net.training, "as it was"
    assert not torch.equal(made, task.generate(noise, 0 * ones))
    assert torch.equal(task.reconstruct(made, ones), task.reconstruct(made, ones)), "from the mean"
    with pytest.raises(UserError, match="must be told which classes"):
        task.generate(noise)
    with pytest.raises(UserError, match="knows no classes"):
        plain.reconstruct(made, ones)


# ---- probes --------------------------------------------------------------------------------------------------------


def test_the_two_gradients_have_one_mean() -> None:
    """Where f(z) = log p(x | z) is a parabola the mean gradient is known, and both come to it."""
    task, x, _ = linear_gaussian()
    with torch.no_grad():
        task.net.mean.bias.add_(0.5)
    found = of_pictures(task, x, None, 20_000)
    assert (found["far"] / found["error"]).mean() < 3
    assert bool((found["variance"] < found["score"]).all())
    numbers = reparameterised(task_of(), Pictures(), draws=200, items=20)
    assert numbers["reparameterised/variance"] < numbers["reparameterised/score"]
    ratio = numbers["reparameterised/variance"] / numbers["reparameterised/score"]
    assert numbers["reparameterised/log_ratio"] == pytest.approx(math.log10(ratio))
    with pytest.raises(UserError, match="draws=2"):
        reparameterised(task_of(), Pictures(), draws=2)


def test_bounds_rise_with_the_codes() -> None:
    task, x, exact = linear_gaussian()
    data = Pictures(8)
    data.inputs = x
    found = bounds(task, data, samples=[1, 10], items=8)
    assert found["bounds/l_10"] == pytest.approx(float(exact.mean()), rel=1e-4)
    assert found["bounds/least_step"] == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        task.net.mean.bias.add_(1.0)
    found = bounds(task, data, samples=[1, 100], items=8)
    assert found["bounds/least_step"] == found["bounds/l_100"] - found["bounds/l_1"] > 0.1
    assert found["bounds/kl_off"] < 0.2
    for samples, items in (([5, 1], 8), ([], 8), ([0, 1], 8), ([1], 0)):
        with pytest.raises(UserError, match="codes ascend"):
            bounds(task, data, samples=samples, items=items)


def test_principal_components_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    data = Pictures()
    flat = data.inputs.flatten(1).numpy()
    pca = PCA(3).fit(flat)
    expected = ((pca.inverse_transform(pca.transform(flat)) - flat) ** 2).mean()
    found = principal(task_of(), data, components=3)
    assert found["principal/pca"] == pytest.approx(float(expected), rel=1e-4)
    task = task_of()
    assert found["principal/ratio"] == pytest.approx(found["principal/net"] / found["principal/pca"])
    said = task.reconstruct(data.inputs)
    expected = float((said - data.inputs).square().mean())
    assert principal(task, data, components=1)["principal/net"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="from 1 to 16"):
        principal(task, data, components=17)


# ---- runs ----------------------------------------------------------------------------------------------------------

DIGITS = ["model=vae", "data=digits", "model.width=64", "model.latents=8", "data.batch_size=16", "optimizer.lr=5e-3"]


def test_it_learns_what_it_measures() -> None:
    words = [*DIGITS, "trainer.max_epochs=5", "task.likelihood_samples=20"]
    words += ["data.classes=[0,2,3,4,5,6,7,8,9]", "probe=[anomaly,principal]", "probe.anomaly.items=100"]
    found = trained(*words).metrics
    assert found["test/loss"] == -found["test/elbo"] == pytest.approx(found["test/reconstruction"] + found["test/kl"])
    assert found["test/elbo"] < -found["test/nll"] < found["test/elbo"] + 3, "the bound is one, and not far"
    assert found["test/loss"] < 26.5, "27.3 is what one gray picture for all has"
    assert 2 <= found["test/active_units"] <= 8
    assert found["probe/principal/net"] < 0.055
    assert found["probe/anomaly/inverted"] > 0.9
    assert found["probe/anomaly/nats_inverted"] < found["probe/anomaly/nats"]


class ByWhite:
    """A task to which black pictures are the likeliest: the failure that is known, at its purest."""

    conditional, net = False, nn.Linear(1, 1)

    def shown(self, inputs: Tensor) -> Tensor:
        return inputs.clamp(0, 1)

    def likelihoods(self, x: Tensor, samples: int) -> Tensor:
        return -x.flatten(1).sum(1)


def test_strange_pictures_are_told_by_a_small_likelihood() -> None:
    data = compose(["data=digits", "data.classes=[0,2,3,4,5,6,7,8,9]", "data.mean=[0.0]", "data.std=[1.0]"]).data
    data = trust.build(data)
    left = held_out(data)
    left.setup()
    assert left.classes == ["1"]
    assert sum(left.sizes.values()) == 182, "the ones among the scans"
    found = anomaly(ByWhite(), data, items=50)
    assert found["anomaly/inverted"] == 1
    assert found["anomaly/faded"] == 0
    assert found["anomaly/nats_faded"] == pytest.approx(found["anomaly/nats"] / 10)
    white = -ByWhite().likelihoods(torch.cat([x for x, _ in left.loader("test")]), 1)
    assert found["anomaly/nats_held_out"] == pytest.approx(-float(white.mean()))
    assert data.classes[1] == "2", "the run's own data are as they were"


def test_a_code_that_says_nothing_has_no_active_unit() -> None:
    found = trained(*DIGITS, "task.beta=1000", "trainer.max_epochs=1").metrics
    assert found["test/active_units"] == 0
    assert found["test/kl"] < 0.05


def test_classes_beside_the_code() -> None:
    words = [*DIGITS, "model.conditional=true", "trainer.max_epochs=4", "task.bound=iwae", "task.importance_samples=3"]
    result = trained(*words)
    assert result.metrics["test/iwae"] > result.metrics["test/elbo"]
    run = load_run(result.folder)
    noise = run.task.noise(10, torch.Generator().manual_seed(0))[:1].expand(10, -1)
    made = run.task.generate(noise, torch.arange(10))
    apart = torch.cdist(made.flatten(1), made.flatten(1)) + 10 * torch.eye(10)
    assert apart.min() > 0.3, "ten digits by one code"


def test_a_run_goes_on_to_the_bit() -> None:
    words = [*DIGITS, "task.binarize=true", "data.train_items=200"]
    whole = trained(*words, "run_dir=whole")
    trained(*words, "run_dir=broken", "trainer.max_epochs=1")
    again = trained(*words, "run_dir=broken", "resume=broken", "trainer.max_epochs=2")
    assert whole.metrics == again.metrics


def test_a_narrow_code() -> None:
    words = ["model=autoencoder", "data=digits", "model.widths=[64]", "model.code=8", "data.batch_size=16"]
    words += ["optimizer.lr=5e-3"]
    found = trained(*words, "trainer.max_epochs=4", "probe=[principal]", "probe.principal.components=8").metrics
    assert found["test/loss"] < 22
    assert found["probe/principal/net"] == pytest.approx(found["val/mse"], rel=1e-3)
    linear = [*words, "model.widths=[]", "task.loss=mse"]
    found = trained(*linear, "trainer.max_epochs=10", "probe=[principal]", "probe.principal.components=8").metrics
    assert 0.98 < found["probe/principal/ratio"] < 1.3, "a linear one comes to the principal components"


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.beta=-1"], "task.beta=-1: must be at least 0"),
        (["task.bound=tight"], "task.bound=tight: must be elbo or iwae"),
        (["task.likelihood=normal"], "task.likelihood=normal: must be bernoulli or gaussian"),
        (["task.importance_samples=0"], "task.importance_samples=0: must be a whole number of at least 1"),
        (["task.likelihood_samples=-1"], "task.likelihood_samples=-1: must be a whole number of at least 0"),
        (["task.bound=iwae", "task.beta=2"], "no divergence to weigh; task.bound=elbo"),
        (["task.likelihood=gaussian", "task.deviation=0"], "task.deviation=0: must be above 0"),
        (["task.likelihood=gaussian", "task.binarize=true"], "task.binarize=true: binary pixels"),
        (["task.mean=null"], "task.likelihood=gaussian"),
        (["model=vae_conv", "data.image_size=10"], "pictures of 10 pixels cannot be halved 2 times"),
        (["model=vae", "task=classification"], "which task=classification cannot score; task=vae"),
        (["model=mlp", "task=vae"], "task=vae needs a net made for it"),
        (["data=two_spirals"], "model=vae needs channels, which data=two_spirals does not have"),
        (["probe=[anomaly]", "trainer.max_epochs=0"], "leave no class out; data.classes="),
    ],
)
def test_what_cannot_be_is_told_in_one_line(cli: Any, words: list[str], said: str) -> None:
    answer: Said = cli("check", "model=vae", *words)
    assert said in one_line(answer)


def test_tasks_refuse_by_themselves() -> None:
    with pytest.raises(UserError, match="must be cross_entropy or mse"):
        Autoencoding(Autoencoder(), torch.optim.Adam, loss="bce", **PIXELS)
    with pytest.raises(UserError, match=r"task\.loss=mse"):
        Autoencoding(Autoencoder(), torch.optim.Adam)
    with pytest.raises(UserError, match="task=vae"):
        bounds(create_module("autoencoder"), Pictures())
    with pytest.raises(UserError, match="says no pictures again"):
        principal(create_module("mlp"), Pictures())
    with pytest.raises(UserError, match="without a class"):
        anomaly(create_module("vae", conditional=True), Pictures())
