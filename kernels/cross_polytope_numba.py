"""Codes of cross-polytope hashes from projections, in Numba: vectors lie in the lanes, coordinates pass by."""

import numpy as np
from numba import njit, prange

LANES = 1024


@njit(parallel=True, nogil=True, cache=True)
def pack(projections, hashes, codes, first):
    """Fill codes [R, L, n] uint16 from table `first` on with those of contiguous projections [R, T, sum(hashes), n]
    float32; `hashes` [h] int64 are the coordinates of a table's hashes."""
    R, T, _, n = projections.shape
    blocks = -(-n // LANES)
    for task in prange(R * T * blocks):
        start = task % blocks * LANES
        r, table = task // blocks // T, task // blocks % T
        lanes = min(LANES, n - start)
        whole, code = np.zeros(LANES, np.int32), np.empty(LANES, np.int32)
        largest = np.empty(LANES, np.float32)
        row, shift = 0, 0
        for m in hashes:
            largest[:] = -1.0
            for j in range(m):
                here = projections[r, table, row + j, start : start + lanes]
                for i in range(lanes):
                    size = abs(here[i])
                    code[i] = np.int32(2 * j) + np.int32(here[i] > 0) if size > largest[i] else code[i]
                    largest[i] = max(size, largest[i])
            for i in range(lanes):
                whole[i] |= code[i] << shift
            row += m
            while m:
                m >>= 1
                shift += 1
        for i in range(lanes):
            codes[r, first + table, start + i] = np.uint16(whole[i])
