"""How large a uniform sample of the rest must be for a relative error of epsilon, but with probability delta.

The rest are r keys with weights e, of which a first sample, the base, is known; with the keys attended in any case the
denominator is D = fixed + sum(e). The base is extended to what is asked for here, not drawn anew (vAttention, arXiv
2510.05688, section 4, in the form of METHODS 1.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import torch

HalfWidth = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def deviations(delta: float) -> float:
    """Standard deviations within which a normal variable stays, on both sides, but with probability delta."""
    return NormalDist().inv_cdf(1 - delta / 2)


def by_normal(relative_spread: torch.Tensor, epsilon: float, delta: float, rest: torch.Tensor) -> torch.Tensor:
    """Keys [...] for a normal mean: b = (z * spread / epsilon)^2, less what drawing without replacement saves.

    `relative_spread` [...] is r times the standard deviation of a key's term, relative to the total.
    """
    with_replacement = (deviations(delta) * relative_spread / epsilon).square()
    return (with_replacement / (1 + with_replacement / rest.clamp_min(1))).ceil().long()


def certainly_enough(
    weights: torch.Tensor,
    rest: torch.Tensor,
    fixed: torch.Tensor,
    most: torch.Tensor,
    base: int,
    epsilon: float,
    delta: float,
    half_width: HalfWidth,
) -> torch.Tensor:
    """The first of b = base, 2 base, 4 base, ... at which a bound that always holds allows no error above epsilon.

    The bound gets an equal part of delta at each of these, so that it holds at all, wherever it stops; D is not
    known but it is no less than its estimate without the half width.

    Args:
        weights: e in the order of drawing, the keys of the rest first, [..., n].
        rest: their number [...]; fixed: [...]; most: no e of the rest is above it, [...].
        half_width: of a mean's interval, `by_hoeffding` or `by_bernstein`.

    Returns:
        b [...] int64; all of the rest where nothing less is enough.
    """
    longest = int(rest.max())
    ladder = [base]
    while ladder[-1] < longest:
        ladder.append(2 * ladder[-1])
    sizes = torch.minimum(torch.tensor(ladder, device=rest.device), rest[..., None]).clamp_min(1)  # [..., rungs]
    mean, square = (x.double().cumsum(-1).gather(-1, sizes - 1) / sizes for x in (weights, weights.square()))
    share = delta / max(1, len(ladder) - 1)  # the last rung is everything, and exact
    off = rest[..., None] * half_width(square - mean.square(), most[..., None], sizes, share)
    total = fixed[..., None] + rest[..., None] * mean
    enough = (off <= epsilon * (total - off)) | (sizes >= rest[..., None])
    return sizes.gather(-1, enough.long().argmax(-1, keepdim=True))[..., 0]


def by_hoeffding(variance: torch.Tensor, most: torch.Tensor, size: torch.Tensor, delta: float) -> torch.Tensor:
    """Half width of the mean of terms in [0, most] (Hoeffding 1963, which covers draws without replacement)."""
    return most * (math.log(2 / delta) / (2 * size)).sqrt()


def by_bernstein(variance: torch.Tensor, most: torch.Tensor, size: torch.Tensor, delta: float) -> torch.Tensor:
    """The same, narrower where the sample's own variance is small (Audibert, Munos, Szepesvari 2009, Theorem 1)."""
    x = math.log(3 / delta)
    return (2 * variance.clamp_min(0) * x / size).sqrt() + 3 * most * x / size
