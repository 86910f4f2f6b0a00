"""quantize_keys in Numba: a block of 64 tokens lies in the lanes from the rotation to the packed words."""

import numpy as np
import torch
from numba import njit, prange

from truffle.kernels.contract import Needs
from truffle.kernels.numba_support import FUSE, float_bits, launching, widen
from truffle.kernels.numba_support import bits as bits_of
from truffle.kernels.quantize_keys.contract import LARGEST, SMALLEST, STEPS
from truffle.kernels.registry import implements

LANES = 64
COLUMNS = 4  # of the rotation together: four sums for every four loads of tokens
F = np.float32


@implements("quantize_keys", "cpu_numba", Needs(packages=("numba",)))
def quantize_keys(
    keys: torch.Tensor,
    center: torch.Tensor,
    rotation: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    *,
    start: int,
    bits: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    arrays = bits_of(keys), center.numpy(), rotation.numpy(), words.numpy().view(np.uint32), bits_of(scales)
    with launching(threads):
        _quantize(*arrays, start, bits, F(STEPS[bits]))


@njit(parallel=True, nogil=True, cache=True)
def _quantize(keys, center, rotation, words, scales, start, bits, step):
    R, n, d = keys.shape
    first = start // LANES
    count = (start + n + LANES - 1) // LANES - first if n else 0
    for task in prange(R * count):
        r, block = task // count, first + task % count
        low, high = max(start - block * LANES, 0), min(start + n - block * LANES, LANES)
        x = np.zeros(d * LANES, np.float32)
        for lane in range(low, high):
            key = keys[r, block * LANES + lane - start]
            for k in range(d):
                x[k * LANES + lane] = widen(key[k]) - center[r, k]
        y = np.zeros(d * LANES, np.float32)
        _rotate(x, rotation, y)
        codes, scale = _quantised(y, d, bits, step)
        _pack(codes, d, bits, words[r, block], low, high)
        for lane in range(low, high):
            word = float_bits(scale[lane])
            scales[r, block, lane] = (word + np.uint32(0x7FFF) + (word >> np.uint32(16) & np.uint32(1))) >> np.uint32(
                16
            )


@njit(fastmath=FUSE)
def _rotate(x, rotation, y):
    d = len(rotation)
    for c in range(0, d // COLUMNS * COLUMNS, COLUMNS):
        to = y[c * LANES :]
        for k in range(d):
            tokens = x[k * LANES :]
            w0, w1, w2, w3 = rotation[k, c], rotation[k, c + 1], rotation[k, c + 2], rotation[k, c + 3]
            for i in range(LANES):
                to[i] += w0 * tokens[i]
                to[i + LANES] += w1 * tokens[i]
                to[i + 2 * LANES] += w2 * tokens[i]
                to[i + 3 * LANES] += w3 * tokens[i]
    for c in range(d // COLUMNS * COLUMNS, d):
        for k in range(d):
            for i in range(LANES):
                y[c * LANES + i] += rotation[k, c] * x[k * LANES + i]


@njit(error_model="numpy")
def _quantised(y, d, bits, step):
    """Codes, flat [d, LANES] uint32, and scales [LANES] of coordinates y."""
    squares, product = np.zeros((2, LANES), np.float32)
    for k in range(d):
        for i in range(LANES):
            squares[i] += y[k * LANES + i] * y[k * LANES + i]
    known = (squares >= F(SMALLEST)) & (squares <= F(LARGEST))
    steps = F(1) / (step * np.sqrt(np.where(known, squares, F(1)) / F(d)))
    half, most = F(1 << bits) / F(2), F((1 << bits) - 1)
    codes = np.empty(d * LANES, np.uint32)
    for k in range(d):
        for i in range(LANES):
            at = y[k * LANES + i] if known[i] else F(0)
            code = np.int32(min(max(at * steps[i] + half, F(0)), most))
            product[i] += at * (F(2) * F(code) - most)
            codes[k * LANES + i] = np.uint32(code)
    return codes, np.where(known, squares / product, F(0))


@njit
def _pack(codes, d, bits, words, low, high):
    fields = 32 // bits
    for w in range(len(words)):
        packed = np.zeros(LANES, np.uint32)
        for k in range(w * fields, min(d, (w + 1) * fields)):
            place = k % fields
            shift = np.uint32(8 * (place % 4) + bits * (place // 4))
            for i in range(LANES):
                packed[i] |= codes[k * LANES + i] << shift
        words[w, low:high] = packed[low:high]
