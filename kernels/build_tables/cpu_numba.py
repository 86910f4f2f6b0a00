"""build_tables in Numba: a counting sort a table, its cursors kept in the offsets themselves."""

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.checks import ArgumentError
from truffle.kernels.contract import Needs
from truffle.kernels.numba_support import launching
from truffle.kernels.registry import implements


@implements("build_tables", "cpu_numba", Needs(packages=("numba",)))
def build_tables(
    codes: torch.Tensor,
    offsets: torch.Tensor,
    ids: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    flat_codes, flat_offsets, flat_ids = (tensor.flatten(0, 1).numpy() for tensor in (codes, offsets, ids))
    with launching(threads):
        seen = _sort_tables(flat_codes, flat_offsets, flat_ids, K)
    if seen >> K:
        raise ArgumentError(f"codes: expected codes below 2^K = {1 << K}, got larger ones")


@njit(parallel=True, nogil=True, cache=True)
def _sort_tables(codes, offsets, ids, K):
    seen = np.zeros(len(codes), np.uint16)
    for table in prange(len(codes)):
        seen[table] = _all_bits(codes[table])
        if not seen[table] >> K:
            _sort(codes[table], offsets[table], ids[table])
    return _all_bits(seen)


@njit
def _all_bits(codes):
    seen = np.uint16(0)
    for i in range(len(codes)):
        seen |= codes[i]
    return seen


@njit
def _sort(codes, offsets, ids):
    """offsets[c + 1] is bucket c's size, then its start, then, counted up by its ids, its end."""
    offsets[:] = 0
    for i in range(len(codes)):
        offsets[np.intp(codes[i]) + 1] += 1
    start = np.int32(0)
    for c in range(1, len(offsets)):
        start, offsets[c] = start + offsets[c], start
    for i in range(len(codes)):
        bucket = np.intp(codes[i]) + 1
        ids[offsets[bucket]] = i
        offsets[bucket] += 1
