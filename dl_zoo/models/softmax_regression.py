"""Softmax regression: one weighted sum for each class, and the softmax makes probabilities of the sums.

Bridle, "Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships to Statistical
Pattern Recognition", 1990, Neurocomputing (NATO ASI F68), gave the softmax its name; of two classes it is the logistic
regression of Cox, "The Regression Analysis of Binary Sequences", 1958, J. R. Stat. Soc. B 20(2).

    logits = W x + b,    P(class k | x) = exp(logits_k) / sum_j exp(logits_j)

The classes are separated by planes, whatever the training: the floor that every deeper net is measured against. Under
cross entropy the loss is convex in W and b, so where it starts does not matter in the end.
"""

from torch import Tensor, nn


class SoftmaxRegression(nn.Module):
    """Classifier of flattened inputs; the softmax is the loss's.

    >>> net = SoftmaxRegression()
    >>> sum(p.numel() for p in net.parameters())  # 784 * 10 + 10
    7850
    """

    def __init__(self, in_features: int = 784, num_classes: int = 10):
        super().__init__()
        self.output = nn.Linear(in_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(x.flatten(1))  # (B, C, H, W) -> (B, C*H*W) -> (B, num_classes)
