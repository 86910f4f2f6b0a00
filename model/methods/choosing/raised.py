"""How much more likely every key of a sample must become for a relative error of epsilon, but with probability delta.

A sample S of independent inclusions, each with its p, tells what the variance of a total of x would be if all p were m
times as large, and cut at 1: V(m) = sum over all keys of x^2 (1 / min(1, m p) - 1), of which the sum over S of x^2 / p
(1 / min(1, m p) - 1) is an unbiased estimate. The least m is sought with which that keeps epsilon. It is an estimate
from S: a heavy key that S misses, since it was held to be unlikely, is missing here too.
"""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.enough import deviations
from truffle.model.methods.choosing.errors import squared_distances
from truffle.model.methods.choosing.selector import View


def raise_for(view: View, chosen: Chosen, epsilon: float, delta: float, check: str) -> torch.Tensor:
    """m [Hkv, G], 1 or more, float64: for a normal error of the denominator, or of the output, to first order.

    Of an output z root mean squares are taken to hold the error's length, as errors of one direction alone have the
    longest tail (Szekely and Bakirov 2003, for delta to 0.215).
    """
    numerator, denominator = view.estimate(chosen)
    squares, most = view.weights.square(), denominator
    if check == "both":
        out = numerator / denominator[..., None]
        squares, most = squares * squared_distances(view.values, out), denominator * out.norm(dim=-1)
    allowed = (epsilon / deviations(delta) * most.double()).square()
    taken = chosen.count > 0
    return least_raise(torch.where(taken, squares, 0.0).double(), torch.where(taken, chosen.p, 1.0).double(), allowed)


def least_raise(squares: torch.Tensor, p: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """The least m >= 1 with sum x^2 / p (1 / min(1, m p) - 1) <= allowed [...], of a sample's x^2 and p [..., n].

    In t = 1 / m the sum is of (x / p)^2 t - x^2 / p over keys with p < t: it climbs, piecewise linear, with a kink at
    every p.
    """
    p, order = p.sort(-1)
    squares = squares.gather(-1, order)
    slope, offset = (squares / p.square()).cumsum(-1), (squares / p).cumsum(-1)
    last = (slope * p - offset <= allowed[..., None]).sum(-1, keepdim=True).sub(1).clamp_min(0)  # kink below t
    slope, offset = (line.gather(-1, last)[..., 0] for line in (slope, offset))
    return torch.where(slope > 0, slope / (allowed + offset), 1.0).clamp_min(1.0)
