"""Bytes that a call keeps, of the native heap and of blocks, by calls that keep as much as is known."""

from __future__ import annotations

import ctypes

import pytest
import torch

from truffle.bench.allocations import leaked_bytes
from truffle.bench.regression.figures import SLACK
from truffle.kernels import memory

ROOM = SLACK["leaked_bytes"].amount
LIBC = ctypes.CDLL(None)
MIB = 1 << 20

pytestmark = pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="needs glibc 2.33")
LIBC.malloc.restype, LIBC.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
LIBC.free.argtypes = [ctypes.c_void_p]


@pytest.mark.parametrize("size", [200, 1000, 4 * MIB])
def test_what_malloc_gave_and_free_did_not_take_is_leaked(size):
    kept = []
    leaked = leaked_bytes(lambda: kept.append(LIBC.malloc(size)))
    for block in kept:
        LIBC.free(block)
    # Some are of chunks that malloc had at hand; a chunk has a head, and a mapping a last page.
    assert 0.5 * size <= leaked <= size + 8192


@pytest.mark.parametrize("size", [200, 1000, 4 * MIB])
def test_what_is_given_back_is_not(size):
    assert leaked_bytes(lambda: LIBC.free(LIBC.malloc(size))) <= ROOM


def test_nor_is_what_a_collection_takes():
    def call():
        cycle = [torch.empty(100_000)]
        cycle.append(cycle)

    assert leaked_bytes(call) <= ROOM


@pytest.mark.skipif(memory.native is None, reason="needs the native extension")
def test_blocks_that_tensors_keep_are_leaked():
    kept = []
    assert leaked_bytes(lambda: kept.append(memory.allocate((2 * MIB,), torch.uint8))) >= 2 * MIB
    assert leaked_bytes(lambda: memory.allocate((2 * MIB,), torch.uint8)) <= ROOM


def test_what_grows_once_is_no_leak():
    """As workspaces do, and caches."""
    kept = []
    assert leaked_bytes(lambda: len(kept) < 40 and kept.append(torch.empty(100_000))) <= ROOM
