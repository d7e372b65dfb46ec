"""Newton-CG and L-BFGS: exact on quadratics, and at the minima that others find."""

from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from dl_zoo.from_scratch import newton
from dl_zoo.from_scratch.newton import Loss, by_differences, conjugate_gradients, lbfgs, newton_cg, times_inverse


def quadratic(d: int = 6, condition: float = 100.0) -> tuple[Loss, Tensor, Tensor]:
    """(w - m)^T H (w - m) / 2 with eigenvalues from 1 to `condition`; H and m."""
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=Generator().manual_seed(0)).double())
    h = q @ torch.logspace(0, torch.tensor(condition).log10().item(), d).double().diag() @ q.T
    m = torch.randn(d, generator=Generator().manual_seed(1)).double()
    return lambda w: (float((w - m) @ h @ (w - m) / 2), h @ (w - m)), h, m


def by_autograd(function: object, w: Tensor) -> tuple[float, Tensor]:
    w = w.clone().requires_grad_()
    value = function(w)  # type: ignore[operator]
    return float(value.detach()), torch.autograd.grad(value, w)[0]


def rosenbrock(w: Tensor) -> Tensor:
    return (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


def logistic(w: Tensor) -> Tensor:
    """Of 80 points whose classes overlap, with a penalty that makes the minimum one."""
    x = torch.randn(80, 5, generator=Generator().manual_seed(0)).double()
    y = (x[:, 0] + torch.randn(80, generator=Generator().manual_seed(1)) > 0).double()
    z = x @ w
    return (torch.nn.functional.softplus(z) - y * z).mean() + 0.01 * w.square().sum()


def test_conjugate_gradients_solve_a_system_in_as_many_steps_as_it_has_equations() -> None:
    _, h, m = quadratic()
    p, products = conjugate_gradients(lambda q: h @ q, -h @ m, 1e-10, 6)
    torch.testing.assert_close(p, m, rtol=1e-9, atol=1e-9)
    assert products == 6
    early, _ = conjugate_gradients(lambda q: h @ q, -h @ m, 1e-10, 5)
    assert (early - m).norm() > 1e-3 * m.norm()


def test_a_quadratic_is_one_newton_step_of_d_products() -> None:
    loss, h, m = quadratic()
    p, _ = conjugate_gradients(lambda q: h @ q, loss(torch.zeros(6).double())[1], 1e-12, 6)
    torch.testing.assert_close(p, m, rtol=1e-9, atol=1e-9)
    found = newton_cg(loss, torch.zeros(6).double(), lambda w, q: h @ q)
    torch.testing.assert_close(found.w, m, rtol=0, atol=1e-8)
    assert found.losses[-1] < 1e-15
    assert len(found.losses) <= 10
    assert all(after < before for before, after in zip(found.losses, found.losses[1:], strict=False))


def test_bfgs_that_remembers_d_exact_steps_has_the_inverse_of_a_quadratics_hessian() -> None:
    """Along conjugate directions s_i, y_i = H s_i: then H^-1 y_i = s_i for all of them."""
    _, h, _ = quadratic()
    _, vectors = torch.linalg.eigh(h)
    pairs = [(s, h @ s) for s in vectors.T]
    g = torch.randn(6, generator=Generator().manual_seed(2)).double()
    torch.testing.assert_close(times_inverse(pairs, g), torch.linalg.solve(h, g))
    loss, _, m = quadratic()
    found = lbfgs(loss, torch.zeros(6).double())
    torch.testing.assert_close(found.w, m, rtol=0, atol=1e-7)
    assert len(found.losses) < 40


def test_products_by_differences_are_the_hessians() -> None:
    w, p = torch.tensor([-1.2, 1.0, 0.5]).double(), torch.tensor([1.0, 2.0, -1.0]).double()
    exact = torch.autograd.functional.hessian(rosenbrock, w) @ p
    torch.testing.assert_close(by_differences(partial(by_autograd, rosenbrock), w, p), exact, rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", [newton_cg, lbfgs])
@pytest.mark.parametrize("d", [2, 10])
def test_rosenbrocks_valley_is_followed_to_its_end(method: object, d: int) -> None:
    start = torch.tensor([-1.2, 1.0] * (d // 2)).double()
    found = method(partial(by_autograd, rosenbrock), start, steps=200)  # type: ignore[operator]
    value, g = by_autograd(rosenbrock, found.w)
    assert g.norm() < 1e-6
    assert value < 1e-12 or d == 10  # ten coordinates have a second, local minimum
    assert all(after < before for before, after in zip(found.losses, found.losses[1:], strict=False))


@pytest.mark.parametrize("method", [newton_cg, lbfgs])
def test_logistic_regression_ends_where_torchs_lbfgs_does(method: object) -> None:
    found = method(partial(by_autograd, logistic), torch.zeros(5).double())  # type: ignore[operator]
    w = torch.zeros(5).double().requires_grad_()
    theirs = torch.optim.LBFGS(
        [w], max_iter=200, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        theirs.zero_grad()
        loss = logistic(w)
        loss.backward()
        return loss

    theirs.step(closure)
    torch.testing.assert_close(found.w, w.detach(), rtol=0, atol=1e-7)
    assert found.losses[-1] == pytest.approx(float(logistic(w.detach())), abs=1e-12)
    assert len(found.losses) < 30


def test_a_direction_of_no_positive_curvature_is_left() -> None:
    """At the saddle of x^2 - y^2 the product says so, and the step goes down the gradient."""
    h = torch.tensor([1.0, -1.0]).double().diag()
    g = h @ torch.tensor([0.0, 0.5]).double()
    p, products = conjugate_gradients(lambda q: h @ q, g, 1e-10, 4)
    torch.testing.assert_close(p, -g)
    assert products == 1


def test_a_step_is_lengthened_and_shortened_until_it_meets_wolfes_conditions() -> None:
    loss, _, _ = quadratic(1, 1.0)
    w, (value, g) = torch.zeros(1).double(), loss(torch.zeros(1).double())
    for scale in (1e-3, 1.0, 50.0):
        found = newton.line_search(loss, w, value, g, -scale * g)
        assert found is not None
        assert found.value <= value + newton.LEAST * found.a * float(g @ (-scale * g))
        assert found.slope >= newton.STEEP * float(g @ (-scale * g))
    assert newton.line_search(loss, w, value, g, g) is None, "uphill there is nothing"
