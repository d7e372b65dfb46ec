"""Batches, pairs and triplets for losses that compare items: who is met with whom.

Drawn at random, most pairs are of two classes, the more so the more classes there are, and a batch may hold a single
item of some. A batch is made of P classes with K items each: every item then has K - 1 of its own class and (P - 1) K
of others beside it (Schroff, Kalenichenko, Philbin 2015, arXiv:1503.03832, section 3.2; Hermans, Beyer, Leibe 2017,
arXiv:1703.07737, section 2). Siamese nets were first trained on given pairs, of which half are equal (Bromley et al.
1993, "Signature Verification using a Siamese Time Delay Neural Network", section 4).
"""

import torch
from torch import Generator, Tensor

from dl_zoo.data.memory import MemoryLoader, seeded
from dl_zoo.errors import UserError


class ClassBatches(MemoryLoader):
    """A shuffled `MemoryLoader` whose batches have `batch_size` / `each` classes with `each` items, no item twice.

    An epoch is as many full batches as the items make. Which classes a batch has is drawn anew for each. A class is
    gone through in an order of its own before an item of it comes again. So small classes come round oftener, and an
    epoch need not show every item of a large one. The order is a function of (seed, epoch), as that of every loader.

    Where several processes share a batch, `each` should divide by their number, so that all of them have every class.
    """

    each: int

    @classmethod
    def of(cls, loader: MemoryLoader, each: int) -> "ClassBatches":
        """The same items, transforms and place, in such batches.

        UserError: a batch that is no multiple of `each`, or needs more classes than have `each` items, or holds more
        items than there are.
        """
        have = int((loader.targets.bincount() >= each).sum())
        wanted, left = divmod(loader.batch_size, each)
        if each < 2 or left:
            raise UserError(
                f"data.items_per_class={each}: must be at least 2 and divide data.batch_size={loader.batch_size}"
            )
        if not 2 <= wanted <= have:
            raise UserError(
                f"data.batch_size={loader.batch_size} with data.items_per_class={each} takes {wanted} classes; "
                f"from 2 to the {have} that have as many items can be had"
            )
        made = cls.__new__(cls)
        made.__dict__.update(loader.__dict__)
        made.each = each
        made.length = len(loader.inputs) // loader.batch_size
        made.items = made.length * loader.batch_size
        if not made.length:
            raise UserError(f"data.batch_size={loader.batch_size}: there are {len(loader.inputs)} training items")
        return made

    def order(self, epoch: int) -> Tensor:
        generator = seeded(self.seed, epoch)
        targets = self.targets.cpu()
        labels = (targets.bincount() >= self.each).nonzero().flatten()
        per_batch = self.batch_size // self.each
        chosen = torch.stack(
            [labels[torch.randperm(len(labels), generator=generator)[:per_batch]] for _ in range(self.length)]
        )  # (batches, P)
        order = torch.empty(*chosen.shape, self.each, dtype=torch.long)  # (batches, P, K)
        for label in labels:
            place = chosen == label
            members = (targets == label).nonzero().flatten()
            order[place] = groups(members, self.each, int(place.sum()), generator)
        return order.flatten().to(self.inputs.device)


def groups(members: Tensor, each: int, count: int, generator: Generator) -> Tensor:
    """(count, each): groups of different members, all that a permutation yields before the next is drawn."""
    found, whole = [torch.empty(0, each, dtype=torch.long)], len(members) // each
    for _ in range(-(-count // whole)):
        order = torch.randperm(len(members), generator=generator)[: whole * each]
        found.append(members[order].view(whole, each))
    return torch.cat(found)[:count]


def pairs(targets: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices (count,) twice: the first half of the pairs, rounded down, are of one class, the others of two.

    No item is paired with itself. ValueError: no class has two items, or there is only one class.

    >>> first, second = pairs(torch.tensor([0, 0, 1, 1]), 6)
    >>> torch.tensor([0, 0, 1, 1])[first] == torch.tensor([0, 0, 1, 1])[second]
    tensor([ True,  True,  True, False, False, False])
    """
    generator = seeded(seed)
    equal, other = count // 2, count - count // 2
    a, b = partners(targets, equal, True, generator)
    c, d = partners(targets, other, False, generator)
    return torch.cat([a, c]), torch.cat([b, d])


def triplets(targets: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (count,) thrice: an anchor, another item of its class, and one of another class. ValueError: see `pairs`.

    >>> anchor, equal, other = triplets(torch.tensor([0, 0, 1]), 5)
    >>> (anchor + equal).tolist(), other.tolist()
    ([1, 1, 1, 1, 1], [2, 2, 2, 2, 2])
    """
    generator = seeded(seed)
    anchor, equal = partners(targets, count, True, generator)
    if (targets == targets[0]).all():
        raise ValueError("there is only one class")
    return anchor, equal, others(targets[anchor], targets, generator)


def partners(targets: Tensor, count: int, equal: bool, generator: Generator) -> tuple[Tensor, Tensor]:
    """Items, each as likely as the next among those that have a partner of that kind, and a partner for each."""
    sizes = targets.bincount()[targets]  # (N,): of each item's class
    able = (sizes > 1 if equal else sizes < len(targets)).nonzero().flatten()
    if not len(able):
        raise ValueError("no class has two items" if equal else "there is only one class")
    first = able[torch.randint(len(able), (count,), generator=generator)]
    if not equal:
        return first, others(targets[first], targets, generator)
    order = targets.argsort(stable=True)  # the items of a class stand in a row
    starts = targets.bincount().cumsum(0) - targets.bincount()
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))) - starts[targets]  # in its class
    step = 1 + (torch.rand(count, generator=generator) * (sizes[first] - 1)).long()  # 1 .. size - 1: never itself
    second = order[starts[targets[first]] + (place[first] + step) % sizes[first]]
    return first, second


def others(labels: Tensor, targets: Tensor, generator: Generator) -> Tensor:
    """For each label (count,) an item that is not of it."""
    order = targets.argsort(stable=True)
    sizes = targets.bincount()
    ends = sizes.cumsum(0)[labels]  # the items of others begin where those of the label end, and go round
    free = len(targets) - sizes[labels]
    return order[(ends + (torch.rand(len(labels), generator=generator) * free).long()) % len(targets)]
