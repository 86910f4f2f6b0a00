"""Cross-polytope hashes: the nearest of the 2m points +-e_j to m projections of a vector, and how often two agree."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from truffle.kernels.collision import CollisionLaw
from truffle.kernels.polytope_integral import log_scaled_probability

_SCRATCH = 1 << 21  # projections that are held at a time, for a cache to hold
_DEGREE = 40


def hashes_of(K: int, coordinates: int) -> tuple[int, ...]:
    """The coordinates of each hash of a table of K bits: log2(2m) bits each, the last one takes what bits are left."""
    bits = coordinates.bit_length()  # of 2m values, where m is a power of two
    left = K % bits
    return (coordinates,) * (K // bits) + ((1 << left - 1,) if left else ())


def cross_polytope_codes(
    x: torch.Tensor, planes: torch.Tensor, center: torch.Tensor | None, codes: torch.Tensor, hashes: tuple[int, ...]
) -> None:
    """Fill codes [R, L, n] uint16 with those of x [R, n, d], on the device of all.

    Every column of a Gaussian `planes` [d, L * sum(hashes)] is a coordinate of a hash of a table. A hash is the index
    of its largest |coordinate|, with that one's sign in the lowest bit; a table's first hash has the lowest bits.
    (Andoni et al., arXiv 1509.02897, with a Gaussian rotation, for which the law below is exact.)
    """
    x = x.float() if center is None else x.float() - center[:, None]
    across, columns = x.transpose(1, 2), sum(hashes)
    tables = max(1, _SCRATCH // (x.shape[0] * x.shape[1] * columns))
    pack, first = _pack_here if x.device.type == "cpu" else _pack_there, 0
    for part in planes.split(tables * columns, dim=1):
        projections = (part.T @ across).unflatten(1, (part.shape[1] // columns, columns))
        pack(projections, hashes, codes, first)
        first += projections.shape[1]


def _pack_here(projections: torch.Tensor, hashes: tuple[int, ...], codes: torch.Tensor, first: int) -> None:
    from truffle.kernels.cross_polytope_numba import pack
    from truffle.kernels.numba_support import launching

    with launching(torch.get_num_threads()):
        pack(projections.contiguous().numpy(), np.array(hashes), codes.numpy(), first)


def _pack_there(projections: torch.Tensor, hashes: tuple[int, ...], codes: torch.Tensor, first: int) -> None:
    codes[:, first : first + projections.shape[1]] = _packed(projections, hashes).to(codes.dtype)


def _packed(projections: torch.Tensor, hashes: tuple[int, ...]) -> torch.Tensor:
    """Codes [R, L, n] int32 of projections [R, L, sum(hashes), n]."""
    code, shift = torch.zeros_like(projections[:, :, 0], dtype=torch.int32), 0
    for part in projections.split(hashes, dim=2):
        largest = part.abs().max(2, keepdim=True).indices
        value = 2 * largest.int() + (part.gather(2, largest) > 0)
        code |= value.squeeze(2) << shift
        shift += part.shape[2].bit_length()
    return code


@dataclass(frozen=True)
class CrossPolytopeLaw(CollisionLaw):
    """Inclusion law of cross-polytope tables over Gaussian projections, independent of what was drawn.

    A table retrieves a key when all its hashes agree, ``P = prod p(theta; m)`` over their coordinates m.

    Attributes:
        coordinates: m of a hash, a power of two; a last hash has fewer where log2(2m) does not divide K.
    """

    coordinates: int = 16

    def log_hit_at(self, agreement: np.ndarray) -> np.ndarray:
        return np.sum([log_agreement(agreement, m) for m in hashes_of(self.K, self.coordinates)], axis=0)


def log_agreement(agreement: np.ndarray, coordinates: int) -> np.ndarray:
    """ln p(theta; m): how likely two vectors' hashes are equal, at agreements 1 - theta / pi in [0, 1]; float64.

    As theta nears pi, p vanishes as agreement^m; the logarithm of the rest is smooth, and a polynomial tells it
    to 1e-6.
    """
    with np.errstate(divide="ignore"):
        return coordinates * np.log(agreement) + _smooth_part(coordinates)(agreement)


@functools.lru_cache(maxsize=16)
def _smooth_part(coordinates: int) -> np.polynomial.Chebyshev:
    def rest(agreement: np.ndarray) -> np.ndarray:
        return np.array([log_scaled_probability(at, coordinates) for at in agreement])

    return np.polynomial.Chebyshev.interpolate(rest, _DEGREE, domain=[0, 1])
