"""Standard errors of attention from the sample itself, by the way it was drawn.

Each takes the denominator as the sum of e over the keys, and the output's error as the sum of e (v - o) / D, which is
what the error of a ratio is to first order. Keys with p = 1 add none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import Errors, View

# The estimated variance of a total of x over all keys, [Hkv, G], from the squared lengths |x|^2 of the keys and a
# function that adds x up over the keys with weights [Hkv, G, n] and gives the squared length of that.
Variance = Callable[[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]


def of_independent(view: View, chosen: Chosen) -> Errors:
    """Where errors of two keys are uncorrelated (Poisson and priority sampling): sum of x^2 (1 - p) / p^2."""
    weights = torch.where(chosen.count > 0, (1 - chosen.p) / chosen.p**2, 0.0)
    return _errors(view, chosen, lambda squares, _: (weights * squares).sum(-1))


def of_uniform(view: View, chosen: Chosen) -> Errors:
    """For a uniform sample of b without replacement of the r keys with p < 1: r^2 (1 - b / r) s^2 / b."""
    rest = chosen.p < 1
    sample = (rest & (chosen.count > 0)).float()
    r, b = rest.sum(-1), sample.sum(-1)

    def variance(squares: torch.Tensor, summed: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        spread = (sample * squares).sum(-1) / b - summed(sample) / b**2
        return torch.where(r > 0, r * (r - b) * spread.clamp_min(0) / (b - 1), 0.0)

    return _errors(view, chosen, variance)


def of_draws(view: View, chosen: Chosen) -> Errors:
    """For B draws with replacement of expected count p: (sum of c (B x / p)^2 / B - total^2) / (B - 1)."""
    draws = chosen.count.sum(-1)
    once = torch.where(chosen.count > 0, chosen.count / chosen.p, 0.0).float()
    twice = torch.where(chosen.count > 0, chosen.count / chosen.p**2, 0.0).float()

    def variance(squares: torch.Tensor, summed: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return (draws * (twice * squares).sum(-1) - summed(once)).clamp_min(0) / (draws - 1)

    return _errors(view, chosen, variance)


def _errors(view: View, chosen: Chosen, variance: Variance) -> Errors:
    numerator, denominator = view.estimate(chosen)
    out, e = numerator / denominator[..., None], view.weights
    apart = squared_distances(view.values, out)

    def length_of_sum(weights: torch.Tensor) -> torch.Tensor:
        weighed = weights * e
        return (weighed @ view.values - weighed.sum(-1, keepdim=True) * out).square().sum(-1)

    of_denominator = variance(e.square(), lambda weights: (weights * e).sum(-1).square())
    of_output = variance(e.square() * apart, length_of_sum)
    norm = out.norm(dim=-1)
    return Errors(of_denominator.sqrt() / denominator, of_output.sqrt() / (denominator * norm))


def squared_distances(values: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """|v - o|^2 of values [Hkv, n, d] and out [Hkv, G, d], [Hkv, G, n]."""
    products = out @ values.transpose(-1, -2)
    lengths = values.square().sum(-1)[:, None] + out.square().sum(-1)[..., None]
    return (lengths - 2 * products).clamp_min(0)
