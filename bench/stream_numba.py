"""Parallel loops that move memory and do next to nothing else, for `bandwidth.py`."""

import numpy as np
from numba import njit, prange

from truffle.kernels.numba_support import prefetch

# Without prefetching, gathers reach half the rate or less; half as far ahead costs a quarter of it.
WORDS_AHEAD = 1024
WORDS_A_LINE = 8

# Loops run over slices from 0: indices that might be negative would keep LLVM from using vector loads.


@njit(parallel=True, cache=True)
def read(source, sums):
    """Sum `source` [n] uint64 by contiguous blocks into `sums` [blocks] uint64."""
    blocks = sums.shape[0]
    for block in prange(blocks):
        part = source[block * source.shape[0] // blocks : (block + 1) * source.shape[0] // blocks]
        total = np.uint64(0)
        for i in range(part.shape[0]):
            total += part[i]
        sums[block] = total


@njit(parallel=True, cache=True)
def copy(source, target):
    """target = source, [n] float64."""
    for i in prange(source.shape[0]):
        target[i] = source[i]


@njit(parallel=True, cache=True)
def triad(a, b, factor, target):
    """target = a + factor * b, [n] float64 (the STREAM benchmark's triad)."""
    for i in prange(a.shape[0]):
        target[i] = a[i] + factor * b[i]


@njit(parallel=True, cache=True)
def gather(words, width, ids, sums):
    """Sum rows of `width` words of `words` [n] uint64 that `ids` [m] names, by blocks, into `sums` [blocks]."""
    blocks = sums.shape[0]
    for block in prange(blocks):
        part = ids[block * ids.shape[0] // blocks : (block + 1) * ids.shape[0] // blocks]
        total = np.uint64(0)
        for i in range(part.shape[0]):
            ahead = part[min(i + WORDS_AHEAD // width, part.shape[0] - 1)] * width
            for j in range(0, width, WORDS_A_LINE):
                prefetch(words, ahead + j)
            row = words[part[i] * width : part[i] * width + width]
            for j in range(row.shape[0]):
                total += row[j]
        sums[block] = total
