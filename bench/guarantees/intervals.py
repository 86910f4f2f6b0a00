"""Intervals of shares that were observed at a few positions of a text, where all else hangs together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000


def clustered(shares: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean of one share a position, and its 95% percentile bootstrap interval, whole positions drawn.

    Where every position has the same share, such as none, the interval is that point.

    Raises:
        ValueError: there is no position.
    """
    if not len(shares):
        raise ValueError("shares: expected one a position, one or more, got none")
    values = np.asarray(shares, float)
    drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
