"""How a gradient becomes a step: each optimizer's rule as a pure function of numbers and what it remembers of the past.

Letters: w the weights, g the gradient of the loss by them, eta the learning rate, t the number of the step from 1 on;
all squares, roots and quotients are element by element. Memories start as zeros.

The article's section 4.2 against what is here:

- It writes momentum as v = beta v - eta g, w = w + v. Here, as in torch, eta stands outside: v = beta v + g,
  w = w - eta v. With a constant eta the steps are the same; where a schedule lowers eta, its form goes on for a while
  with what was gathered at the old rate. It calls v a moving average: it is a sum, whose weights add up to
  1 / (1 - beta), so steps in one direction become 10 times as long at beta = 0.9.
- Its RMSprop leaves open what epsilon is added to. Here, as in torch, to the root and not under it.
- Its "momentum-corrected" gradient of Adam is the mean of the gradients, corrected for having started at zero.
"""

from torch import Tensor


def gradient_descent(w: Tensor, g: Tensor, lr: float) -> Tensor:
    """Robbins, Monro, "A Stochastic Approximation Method", 1951, Annals of Mathematical Statistics 22(3).

    >>> from torch import tensor
    >>> gradient_descent(tensor([1.0, 2.0]), tensor([1.0, -1.0]), lr=0.5)
    tensor([0.5000, 2.5000])
    """
    return w - lr * g  # w <- w - eta g


def momentum(w: Tensor, g: Tensor, v: Tensor, lr: float, beta: float = 0.9) -> tuple[Tensor, Tensor]:
    """Polyak, "Some methods of speeding up the convergence of iteration methods", 1964: a heavy ball. Gives w and v."""
    v = beta * v + g  # v <- beta v + g
    return w - lr * v, v  # w <- w - eta v


def nesterov(w: Tensor, g: Tensor, v: Tensor, lr: float, beta: float = 0.9) -> tuple[Tensor, Tensor]:
    """Nesterov 1983, as Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
    learning", 2013, have it, in the variables of torch. Gives w and v.

    The method takes the gradient where momentum is about to arrive, at u - eta beta v. With w = u - eta beta v that is
    the gradient at w, and the step from one such w to the next is

        v <- beta v + g,    w <- w - eta (g + beta v)
    """
    v = beta * v + g
    return w - lr * (g + beta * v), v


def adagrad(w: Tensor, g: Tensor, s: Tensor, lr: float, eps: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Duchi, Hazan, Singer, "Adaptive Subgradient Methods", 2011, JMLR 12, figure 1, diagonal. Gives w and s.

    s never falls, so of gradients of constant size the t-th step is eta / sqrt(t) long: rates shrink for good.
    """
    s = s + g**2  # s <- s + g^2
    return w - lr * g / (s.sqrt() + eps), s  # w <- w - eta g / (sqrt(s) + epsilon)


def rmsprop(w: Tensor, g: Tensor, s: Tensor, lr: float, alpha: float = 0.9, eps: float = 1e-8) -> tuple[Tensor, Tensor]:
    """Tieleman, Hinton, "Neural Networks for Machine Learning", 2012, lecture 6e. Gives w and s.

    A mean that forgets, so rates recover. It starts at zero and is not corrected: where gradients are of one size, the
    first step is 1 / sqrt(1 - alpha) times as long as later ones.
    """
    s = alpha * s + (1 - alpha) * g**2  # s <- alpha s + (1 - alpha) g^2
    return w - lr * g / (s.sqrt() + eps), s  # w <- w - eta g / (sqrt(s) + epsilon)


def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    bias_correction: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, arXiv:1412.6980, algorithm 1. Gives w, m and v.

    After t steps from zero the weights in the mean m add up to 1 - beta_1^t, and those in v to 1 - beta_2^t: the
    correction divides by that (section 3). The first step then is eta times the gradient's sign. Without it the first
    is (1 - beta_1) / sqrt(1 - beta_2) times as long, 3.2 by the paper's defaults (section 6.4).
    """
    m = betas[0] * m + (1 - betas[0]) * g  # m <- beta_1 m + (1 - beta_1) g
    v = betas[1] * v + (1 - betas[1]) * g**2  # v <- beta_2 v + (1 - beta_2) g^2
    m_hat = m / (1 - betas[0] ** t) if bias_correction else m  # m / (1 - beta_1^t)
    v_hat = v / (1 - betas[1] ** t) if bias_correction else v  # v / (1 - beta_2^t)
    return w - lr * m_hat / (v_hat.sqrt() + eps), m, v  # w <- w - eta m_hat / (sqrt(v_hat) + epsilon)
