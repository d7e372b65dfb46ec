"""Several tensors of the same items, batch by batch."""

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device

from dl_zoo.data.columns import Columns, Side
from dl_zoo.data.memory import MemoryLoader


def test_a_loader_gathers_them_together() -> None:
    words, lengths = torch.arange(12).view(6, 2).float(), torch.arange(6)
    loader = MemoryLoader(Columns([words, lengths]), torch.arange(6), batch_size=4, shuffle=True, seed=3)
    seen = 0
    for (some, their), targets in loader:
        assert torch.equal(their, targets)
        assert torch.equal(some, words[targets])
        seen += len(targets)
    assert seen == 6


def test_lengths_stay_on_the_host() -> None:
    batch = Side((torch.zeros(3, 5), torch.tensor([1, 2, 3])))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Side)
    assert (moved[0].device.type, moved[1].device.type) == ("meta", "cpu")


def test_rows_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"as many rows each, not \[3, 2\]"):
        Columns([torch.zeros(3, 1), torch.zeros(2)])
