"""How many synthetic keys tables sample, and cosines for which they sample a given share."""

from __future__ import annotations

import numpy as np
import torch

from truffle.bench.synthetic import COSINE_DEVIATION, largest_deviation
from truffle.kernels import registry
from truffle.kernels.checks import expect
from truffle.kernels.collision import TABLE_CELLS
from truffle.model.config import LshParameters
from truffle.model.methods.families import law_of

MARGIN_DRAWS = 16


def expected_fraction(p: LshParameters, deviation: float = COSINE_DEVIATION) -> float:
    """Share of keys sampled when the cosines of queries and keys are N(0, deviation^2)."""
    z = np.linspace(-6, 6, 1201)
    weights = np.exp(-(z**2) / 2)
    included = _inclusion(p, deviation * z)
    return float((weights * included).sum() / weights.sum())


def deviation_for(p: LshParameters, fraction: float, head_dim: int) -> float:
    """The deviation at which `fraction` of the keys is sampled, to a ten thousandth of itself.

    Raises:
        ArgumentError: no deviation that synthetic keys of `head_dim` can have does.
    """
    low, high = 0.0, largest_deviation(head_dim)
    least, most = expected_fraction(p, low), expected_fraction(p, high)
    expect(least < fraction < most, "sampled", f"between {least:.2g} and {most:.2g} under these tables", fraction)
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if expected_fraction(p, middle) < fraction else (low, middle)
    return high


def _inclusion(p: LshParameters, cosine: np.ndarray) -> np.ndarray:
    """u by cosine; where the query directs the probes, the mean over MARGIN_DRAWS queries."""
    if p.probing.kind != "directed":
        return np.exp(law_of(p).log_inclusion(cosine))
    margins = torch.randn(1, MARGIN_DRAWS, p.L, p.K, generator=torch.Generator().manual_seed(0))
    codes = torch.empty(1, MARGIN_DRAWS, p.L, p.probing.amount, dtype=torch.uint16)
    log_u = torch.empty(MARGIN_DRAWS, TABLE_CELLS + 1)
    registry.get("direct_probes")(margins, codes, log_u, min_hits=p.min_hits)
    place = (1 - np.arccos(np.clip(cosine, -1, 1)) / np.pi) * TABLE_CELLS
    return np.mean([np.exp(np.interp(place, np.arange(TABLE_CELLS + 1), row)) for row in log_u.numpy()], axis=0)
