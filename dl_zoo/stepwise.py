"""A net of texts as `decoding` asks it: `net(tokens, state) -> (logits, state)`, whatever comes second in its own."""

from typing import Any

from torch import Tensor, nn


class Stepwise(nn.Module):
    """Around a net whose forward takes `state=`; recurrent nets have the lengths of sequences before it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.training = net, net.training
        self.context: int | None = getattr(net, "context", None)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        logits, after = self.net(tokens, state=state)
        return logits, after
