"""How many matrix products of a forward pass must wait for one another: the steps that no amount of hardware shortens.

Vaswani et al., "Attention Is All You Need", 2017, arXiv:1706.03762, section 4 and table 1: a recurrent layer needs O(n)
sequential operations for n positions, a layer of attention O(1).

Counted, not derived: every operation that torch carries out is seen, and what it gives is one product deeper than the
deepest of what it reads if it is a product, else as deep:

    depth(y) = max over inputs x of depth(x), + 1 where y is a matrix product;   depth(weights) = depth(tokens) = 0

A product waits here for the whole of every tensor that it reads. So of two recurrent layers, the second of which reads
all outputs of the first at once, as torch has it, the chain is twice as long as one's; who interleaves their steps
waits only for one step more than one layer does.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dl_zoo.errors import UserError

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.addbmm, aten.mv, aten.addmv, aten.dot, aten.convolution}
CLOSED = ("rnn", "lstm", "gru", "attention")  # in the name of an operation that has products within


@torch.no_grad()
def product_chain(task: Any, data: Any, *, lengths: Sequence[int] = (16, 64, 256)) -> dict[str, float]:
    """The longest chain for one sequence of each of `lengths`: validation's first, repeated until it is long enough.

        product_chain/0016, ...   products that wait for one another
        product_chain/slope       how many more for one position more, from the shortest length to the longest

    Raises:
        UserError: fewer than two lengths, inputs that are no sequences of ids, or an operation that hides its products.
    """
    if len({*lengths}) < 2 or min(lengths) < 1:
        raise UserError(f"lengths={[*lengths]}: name two at least, each 1 or more")
    inputs = next(iter(data.loader("val")))[0]
    if not isinstance(inputs, Tensor) or inputs.dim() != 2 or inputs.is_floating_point():
        raise UserError("it asks for sequences of ids, (B, T), and these data have none")
    net = copy.deepcopy(task.net).cpu().double().eval()  # in double precision torch writes recurrent layers out
    row = inputs[:1].cpu()
    found = {}
    for length in sorted({*lengths}):
        times = -(-length // row.shape[1])
        found[length] = longest_chain(net, row.repeat(1, times)[:, :length])
    (short, first), *_, (long, last) = found.items()
    chains = {f"product_chain/{length:04d}": float(depth) for length, depth in found.items()}
    return {**chains, "product_chain/slope": (last - first) / (long - short)}


def longest_chain(net: nn.Module, *inputs: Tensor) -> int:
    """The depth of the deepest tensor that the net gives for these inputs.

    >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    >>> longest_chain(net, torch.zeros(1, 4))
    2
    """
    with sdpa_kernel(SDPBackend.MATH), Chains() as chains:  # attention as the products that it consists of
        output = net(*inputs)
    return max(map(chains.depth, tensors(output)), default=0)


class Chains(TorchDispatchMode):
    """While open, notes of every tensor how many products came one after the other before it.

    The note is on its memory, which views share: what is written into one piece deepens the whole. Memory stays alive
    as long as this does, or a new tensor might lie where an old one was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[int, Any]] = {}  # address of a storage -> its depth, and the storage itself

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if any(word in func.name() for word in CLOSED):
            raise UserError(f"probe=product_chain: {func.name()} is one operation; its products cannot be seen")
        kwargs = kwargs or {}
        depth = max(map(self.depth, tensors((args, kwargs))), default=0) + (func.overloadpacket in PRODUCTS)
        output = func(*args, **kwargs)
        for each in tensors(output):
            storage = each.untyped_storage()
            self.known[storage._cdata] = (max(depth, self.depth(each)), storage)
        return output

    def depth(self, tensor: Tensor) -> int:
        return self.known.get(tensor.untyped_storage()._cdata, (0, None))[0]


def tensors(tree: Any) -> Iterable[Tensor]:
    return (each for each in tree_leaves(tree) if isinstance(each, Tensor))
