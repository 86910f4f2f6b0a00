"""Views of one request on made-up keys, and what a sample says in the mean over many draws."""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import View

D = 16
FIXED = 6
SIGMAS = 4.5  # a mean is off by more in 7 of a million cases; with the few thousand checks of a test, one time in 60


def made_view(n: int, heads: int = 1, repeats: int = 1, beta: float = 2.0, seed: int = 0) -> View:
    """Normal keys and values, scores of deviation `beta`; `repeats` copies of each of `heads` queries are a group."""
    generator = torch.Generator().manual_seed(seed)
    q = beta * torch.nn.functional.normalize(torch.randn(heads, 1, D, generator=generator), dim=-1) * D**0.5
    keys, values, fixed_keys, fixed_values = (
        torch.randn(heads, m, D, generator=generator) for m in (n, n, FIXED, FIXED)
    )
    return View(q.expand(heads, repeats, D), keys, values + 0.5, fixed_keys, fixed_values)


def everything(view: View) -> Chosen:
    return Chosen(torch.ones_like(view.scores, dtype=torch.int64), torch.ones_like(view.scores))


def exact(view: View) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Numerator, denominator and output of attention over all keys."""
    numerator, denominator = view.estimate(everything(view))
    return numerator, denominator, numerator / denominator[..., None]


def deviations_off(samples: torch.Tensor, mean: torch.Tensor | float) -> torch.Tensor:
    """How many of its own standard errors the mean of samples [R, ...] is away from `mean`."""
    samples = samples.double()
    error = samples.std(0) / len(samples) ** 0.5
    off = (samples.mean(0) - mean).abs()
    return torch.where(off < 1e-6 * samples.abs().amax(0).clamp_min(1e-12), 0.0, off / error)


def unbiased(view: View, chosen: Chosen) -> None:
    """Assert that numerator and denominator are right in the mean over a group of repeated queries."""
    numerator, denominator, _ = exact(view)
    found = view.estimate(chosen)
    for got, want in ((found[0], numerator), (found[1], denominator)):
        for head in range(len(want)):
            assert float(deviations_off(got[head], want[head, 0].double()).max()) < SIGMAS


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
