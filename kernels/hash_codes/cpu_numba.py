"""hash_codes in Numba: tokens lie in the lanes, so that bits pack and codes store as whole vectors.

A block of tokens is centred, transposed and widened once, stays in the first-level cache, and meets four
planes at a time in four dimensions at a time: 16 fused products for every eight loads.
"""

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.contract import Needs
from truffle.kernels.numba_support import FUSE, bits, launching, widen
from truffle.kernels.registry import implements

LANES = 64
TABLES = 4  # projected together: 4 K columns are whole groups of four planes whatever K is


@implements("hash_codes", "cpu_numba", Needs(packages=("numba",)))
def hash_codes(
    x: torch.Tensor,
    planes: torch.Tensor,
    center: torch.Tensor | None,
    codes: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    centers = x.new_zeros(x.shape[0], x.shape[2], dtype=torch.float32) if center is None else center
    with launching(threads):
        _hash(bits(x), planes.numpy(), centers.numpy(), codes.numpy(), K)


@njit(parallel=True, nogil=True, cache=True)
def _hash(x, planes, centers, codes, K):
    R, n, _ = x.shape
    L = codes.shape[1]
    blocks = -(-R * n // LANES)
    # Few tokens are shared out by tables, so that a single query still employs every thread.
    parts = min(-(-L // TABLES), max(1, 64 // max(blocks, 1)))
    for task in prange(blocks * parts):
        first, part = task // parts * LANES, task % parts
        panel = _transposed(x, centers, first)
        start, end = part * L // parts, (part + 1) * L // parts
        for table in range(start, end, TABLES):
            tables = min(TABLES, end - table)
            sums = np.zeros(tables * K * LANES, np.float32)
            _project(panel, planes, table * K, sums)
            for i in range(tables):
                _store(_packed(sums[i * K * LANES :], K), codes, table + i, first)


@njit
def _transposed(x, centers, first):
    """Tokens `first` to ``first + LANES`` of all requests in a row, centred: flat [d, LANES] float32."""
    R, n, d = x.shape
    panel = np.zeros(d * LANES, np.float32)
    for lane in range(min(LANES, R * n - first)):
        r = (first + lane) // n
        token, center = x[r, first + lane - r * n], centers[r]
        for k in range(d):
            panel[k * LANES + lane] = widen(token[k]) - center[k]
    return panel


@njit
def _project(panel, planes, column, sums):
    """Fill sums, flat [columns, LANES], with the projections on the planes from `column` on."""
    columns = len(sums) // LANES
    fours = columns // 4 * 4
    for c in range(0, fours, 4):
        _add_four(panel, planes[:, column + c : column + c + 4], sums[c * LANES :])
    for c in range(fours, columns):
        _add_one(panel, planes[:, column + c], sums[c * LANES :], 0)


@njit(fastmath=FUSE)
def _add_four(panel, w, sums):
    """Add the projections on four planes, w [d, 4], four dimensions at a time."""
    d = len(w)
    for k in range(0, d - 3, 4):
        x = panel[k * LANES :]
        a0, a1, a2, a3 = w[k, 0], w[k + 1, 0], w[k + 2, 0], w[k + 3, 0]
        b0, b1, b2, b3 = w[k, 1], w[k + 1, 1], w[k + 2, 1], w[k + 3, 1]
        c0, c1, c2, c3 = w[k, 2], w[k + 1, 2], w[k + 2, 2], w[k + 3, 2]
        d0, d1, d2, d3 = w[k, 3], w[k + 1, 3], w[k + 2, 3], w[k + 3, 3]
        for i in range(LANES):
            x0, x1, x2, x3 = x[i], x[i + LANES], x[i + 2 * LANES], x[i + 3 * LANES]
            sums[i] = sums[i] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
            sums[i + LANES] = sums[i + LANES] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
            sums[i + 2 * LANES] = sums[i + 2 * LANES] + c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
            sums[i + 3 * LANES] = sums[i + 3 * LANES] + d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
    for plane in range(4):
        _add_one(panel, w[:, plane], sums[plane * LANES :], d // 4 * 4)


@njit(fastmath=FUSE)
def _add_one(panel, w, sums, first):
    """Add the projections on one plane, from dimension `first` on."""
    for k in range(first, len(w)):
        x, weight = panel[k * LANES :], w[k]
        for i in range(LANES):
            sums[i] += weight * x[i]


@njit
def _packed(sums, K):
    """Codes of LANES tokens from one table's projections."""
    codes = np.zeros(LANES, np.uint16)
    for j in range(K):
        bit, row = np.uint16(1 << j), sums[j * LANES :]
        for i in range(LANES):
            codes[i] |= bit if row[i] > 0 else np.uint16(0)
    return codes


@njit
def _store(packed, codes, table, first):
    """Write to codes [R, L, n]; a block may end one request and begin others."""
    R, _, n = codes.shape
    token = first
    while token < min(first + LANES, R * n):
        r = token // n
        end = min((r + 1) * n, first + LANES)
        codes[r, table, token - r * n : end - r * n] = packed[token - first : end - first]
        token = end
