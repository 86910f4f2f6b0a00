"""Hyperplanes and the packing order of hash bits."""

from __future__ import annotations

import functools

import numpy as np

MAX_BITS = 16


@functools.lru_cache(maxsize=128)
def hyperplanes(head_dim: int, K: int, L: int, seed: int, layer: int) -> np.ndarray:
    """Gaussian planes of one layer, float32 [head_dim, L*K], shared by its heads.

    Column ``l*K + j`` decides bit j (least significant first) of table l. They come from PCG64 seeded with
    ``[seed, layer]``, so every implementation and every run draws the same ones. Entries are rounded to bfloat16:
    one such product on tensor cores is then as exact as float32 sums are, and a plane is as random as before.
    """
    generator = np.random.Generator(np.random.PCG64([seed, layer]))
    planes = as_bfloat16(generator.standard_normal((head_dim, L * K), dtype=np.float32))
    planes.setflags(write=False)
    return planes


def as_bfloat16(x: np.ndarray) -> np.ndarray:
    """Finite float32 numbers rounded to the nearest that bfloat16 holds, ties to even."""
    bits = x.view(np.uint32)
    nearest = bits + (0x7FFF + (bits >> 16 & 1))
    return (nearest & np.uint32(0xFFFF0000)).view(np.float32)


def probe_masks(K: int, ball: int) -> np.ndarray:
    """XOR masks of the buckets within Hamming radius `ball`, uint16 [probes], the own bucket first."""
    masks = [mask for mask in range(1 << K) if mask.bit_count() <= ball]
    return np.array(sorted(masks, key=lambda mask: (mask.bit_count(), mask)), np.uint16)
