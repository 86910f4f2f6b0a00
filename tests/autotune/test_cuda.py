"""A card that is held to a limit, for real."""

from __future__ import annotations

import pytest
import torch

from truffle.autotune.held import Held

pytestmark = pytest.mark.gpu

GIB = 2**30


def taken(size: int) -> int:
    found = torch.empty(size, dtype=torch.uint8, device="cuda").nbytes
    torch.cuda.empty_cache()
    return found


def test_what_is_absent_is_not_to_be_had_meanwhile():
    try:
        held = Held(3 * GIB, GIB // 4)
        assert held.own_bytes < 3 * GIB
        assert taken(GIB) == GIB
        with held.without(3 * GIB // 2 + GIB // 2), pytest.raises(torch.OutOfMemoryError):
            taken(GIB)
        assert taken(GIB) == GIB
        with pytest.raises(torch.OutOfMemoryError):
            taken(3 * GIB)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
