"""Hyperplanes and the packing order of hash bits."""

from __future__ import annotations

import functools

import numpy as np

MAX_BITS = 16


@functools.lru_cache(maxsize=128)
def hyperplanes(head_dim: int, K: int, L: int, seed: int, layer: int) -> np.ndarray:
    """Gaussian planes of one layer, float32 [head_dim, L*K], shared by its heads.

    Column ``l*K + j`` decides bit j (least significant first) of table l. They come from PCG64 seeded with
    ``[seed, layer]``, so every implementation and every run draws the same ones.
    """
    generator = np.random.Generator(np.random.PCG64([seed, layer]))
    planes = generator.standard_normal((head_dim, L * K), dtype=np.float32)
    planes.setflags(write=False)
    return planes


def probe_masks(K: int, ball: int) -> np.ndarray:
    """XOR masks of the buckets within Hamming radius `ball`, uint16 [probes], the own bucket first."""
    masks = [mask for mask in range(1 << K) if mask.bit_count() <= ball]
    return np.array(sorted(masks, key=lambda mask: (mask.bit_count(), mask)), np.uint16)
