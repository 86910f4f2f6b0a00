"""How likely LSH samples a key: the inclusion probability u as a function of the angle to the query."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import lgamma
from typing import Protocol

import numpy as np

TABLE_CELLS = 4096


class InclusionLaw(Protocol):
    """How likely a key is sampled, by its cosine to the query: one law for all rows of a batch, or one a row."""

    @property
    def tables(self) -> np.ndarray:
        """ln u at agreements i / TABLE_CELLS, float32 [1 or B*H, TABLE_CELLS + 1], for linear interpolation."""
        ...

    def log_inclusion(self, cosine: np.ndarray, row: int) -> np.ndarray:
        """ln u for cosines between the query of a row and hashed keys, clamped to [-1, 1], float64."""
        ...


@dataclass(frozen=True)
class CollisionLaw:
    """Inclusion law of SimHash tables, independent of the drawn hyperplanes.

    One bit of a key and a query agrees with probability ``p = 1 - theta / pi``; a table retrieves the key
    when at most `ball` of its K bits differ, with probability ``P = sum_i C(K,i) p^(K-i) (1-p)^i``; the key
    is sampled when at least `min_hits` of L tables retrieve it, a binomial tail in P. For `ball` 0 and
    `min_hits` 2 this is MagicPIG (arXiv 2410.16179), Eq. 10.

    Attributes:
        K: bits a table.
        L: tables.
        min_hits: tables that must retrieve the key.
        ball: Hamming radius of the probed buckets.
    """

    K: int
    L: int
    min_hits: int = 2
    ball: int = 0

    def log_inclusion_at(self, agreement: np.ndarray) -> np.ndarray:
        """ln u for bit agreement probabilities in [0, 1], float64; -inf where u is 0.

        The tail is summed upward from `min_hits` in the log domain, so that probabilities far below
        machine precision keep their relative accuracy, which ``1 - (1-P)^L - ...`` does not.
        """
        log_hit = self.log_hit_at(np.asarray(agreement, np.float64))
        hit = np.exp(np.minimum(log_hit, 0.0))
        terms = np.arange(self.min_hits, self.L + 1)
        coefficients = np.array([_log_choose(self.L, k) for k in range(self.min_hits, self.L + 1)])
        with np.errstate(divide="ignore", invalid="ignore"):
            log_miss = np.log1p(-hit)
            misses = np.where(terms < self.L, (self.L - terms) * log_miss[..., None], 0.0)
            logs = coefficients + terms * log_hit[..., None] + misses
        return np.minimum(np.logaddexp.reduce(np.where(np.isnan(logs), -np.inf, logs), axis=-1), 0.0)

    def log_hit_at(self, agreement: np.ndarray) -> np.ndarray:
        """ln P that one table retrieves the key, for bit agreement probabilities in [0, 1], float64."""
        return _log_binomial_sum(agreement, self.K, range(self.K - self.ball, self.K + 1))

    def log_inclusion(self, cosine: np.ndarray, row: int = 0) -> np.ndarray:
        """ln u for cosines between query and hashed key, clamped to [-1, 1], float64; the same for every row."""
        theta = np.arccos(np.clip(np.asarray(cosine, np.float64), -1.0, 1.0))
        return self.log_inclusion_at(1.0 - theta / np.pi)

    @property
    def tables(self) -> np.ndarray:
        """ln u at agreements i / TABLE_CELLS, float32 [1, TABLE_CELLS + 1], for linear interpolation.

        Made once for all laws that are equal: it takes 25 ms.

        Over the agreement, unlike over the cosine, ln u has no square-root ends; its curvature is about
        ``min_hits * K / p^2``, so interpolation errs by less than 1e-5 for p >= 0.25. Below one cell ln u
        is held at the first cell's value, which no key in a sample comes near.
        """
        return _tables(self)


@functools.lru_cache(maxsize=64)
def _tables(law: CollisionLaw) -> np.ndarray:
    cells = np.arange(TABLE_CELLS + 1) / TABLE_CELLS
    cells[0] = cells[1]
    tables = law.log_inclusion_at(cells).astype(np.float32)[None]
    tables.flags.writeable = False
    return tables


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _log_binomial_sum(p: np.ndarray, n: int, agreeing: range) -> np.ndarray:
    """ln sum over k in `agreeing` of C(n,k) p^k (1-p)^(n-k)."""
    total = np.full(p.shape, -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in agreeing:
            disagree = (n - k) * np.log1p(-p) if n > k else np.zeros_like(p)
            total = np.logaddexp(total, _log_choose(n, k) + k * np.log(p) + disagree)
    return total
