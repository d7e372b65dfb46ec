"""How many mistakes a perceptron made, beside how many it may make.

Novikoff, "On Convergence Proofs for Perceptrons", 1962, Proc. Symposium on the Mathematical Theory of Automata: where a
plane through the origin separates two classes, Rosenblatt's rule from zero weights errs at most

    (R / gamma)^2 times,    R = max |x|,    gamma = max over unit w of min y (w . x),    y in {-1, +1}

in whatever order the items come, and however often. A bias is the weight of one more input that is always 1.
"""

from typing import Any

import torch
from torch import Tensor

from dl_zoo.errors import UserError


def novikoff(task: Any, data: Any) -> dict[str, float]:
    """`task.mistakes` against the bound over the training split, for two classes.

    `separable`, `radius` R, and `mistakes`; where a plane separates the classes, `margin` gamma, `bound`, and `ratio`,
    mistakes by bound, at most 1 when the theorem's terms are kept.
    """
    if len(data.classes) != 2:
        raise UserError(f"probe=novikoff: the theorem is of two classes, and these data have {len(data.classes)}")
    inputs, targets = (torch.cat(parts) for parts in zip(*data.loader("train"), strict=True))
    signed = signed_rows(inputs, targets)
    radius, margin = signed.norm(dim=1).max().item(), hard_margin(signed)
    found = {"separable": float(margin > 0), "radius": radius, "mistakes": float(task.mistakes)}
    if margin > 0:
        bound = (radius / margin) ** 2
        found |= {"margin": margin, "bound": bound, "ratio": task.mistakes / bound}
    return {f"novikoff/{name}": value for name, value in found.items()}


def signed_rows(inputs: Tensor, targets: Tensor) -> Tensor:
    """(N, F) and classes 0 and 1 -> the different rows y (x, 1), in double: (M, F + 1)."""
    rows = torch.cat([inputs.flatten(1), torch.ones(len(inputs), 1, device=inputs.device)], dim=1)
    return (rows * (2 * targets - 1)[:, None]).unique(dim=0).double().cpu()


def hard_margin(signed: Tensor) -> float:
    """gamma of the rows y x, (M, F): how far the nearest is from the best plane through the origin; 0 where none is.

    Whether there is one is a linear program, y (w . x) >= 1. The support vector machine gets the rows and their
    negatives: by that symmetry its own intercept is 0, and a large C leaves no row inside the margin.

    >>> round(hard_margin(torch.tensor([[-1.0, -1, 1], [1, 1, -1]]).double()), 6)  # opposite: no plane
    0.0
    """
    from scipy.optimize import linprog
    from sklearn.svm import SVC

    rows = signed.numpy()
    count, width = rows.shape
    if linprog([0.0] * width, A_ub=-rows, b_ub=[-1.0] * count, bounds=(None, None)).status != 0:
        return 0.0
    machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit([*rows, *-rows], [1] * count + [-1] * count)
    weights = machine.coef_[0]
    return max(0.0, float((rows @ weights).min() / (weights @ weights) ** 0.5))
