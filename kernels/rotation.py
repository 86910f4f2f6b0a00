"""The rotation that keys and queries of the scan share: it spreads what few coordinates hold over all of them."""

from __future__ import annotations

import functools

import numpy as np

from truffle.kernels.planes import as_bfloat16


@functools.lru_cache(maxsize=128)
def rotation(head_dim: int, seed: int, layer: int) -> np.ndarray:
    """A random orthogonal matrix of one layer, float32 [head_dim, head_dim], shared by its heads: ``x @ rotation``.

    Q of the QR factors of a Gaussian matrix, its columns signed so that it is uniform over the orthogonal group
    (Mezzadri, arXiv math-ph/0609050); PCG64 seeded with ``[seed, layer]`` draws it. Any head dimension has one, where
    a Hadamard matrix wants a power of two, and a key costs head_dim^2 multiplications, a tenth of its 1,500 hash bits.
    Entries are rounded to bfloat16 for tensor cores: what that moves a product by, 0.2% of |q| |k| / sqrt(head_dim),
    is a fiftieth of what four bits do.
    """
    drawn = np.random.Generator(np.random.PCG64([seed, layer])).standard_normal((head_dim, head_dim))
    q, r = np.linalg.qr(drawn)
    turned = as_bfloat16((q * np.where(np.diag(r) < 0, -1.0, 1.0)).astype(np.float32))
    turned.setflags(write=False)
    return turned
