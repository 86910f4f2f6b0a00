"""vAttention's sample as its authors published it, to compare ours with; not a method.

After a description of `adaptive_sampling.py` in xAlg-ai/sparse-attention-hub. It draws with replacement from all keys
outside sink and window, heavy ones too; takes a one-sided quantile; draws anew once it knows how many; and weighs a key
that is drawn m times as if it had been m times as likely.
"""

from __future__ import annotations

from statistics import NormalDist

import torch

from truffle.model.methods.choosing.selector import View
from truffle.model.methods.choosing.top import largest
from truffle.model.methods.choosing.vattention import Verified


def published_rule(
    view: View, heavy_keys: int, base: int, epsilon: float, delta: float, generator: torch.Generator
) -> Verified:
    """What the published rule chooses, over the exact top-k as heavy set."""
    n = view.scores.shape[-1]
    heavy = largest(view.scores, heavy_keys)
    sample = _times_drawn(view, torch.full(view.scores.shape[:-1], base), generator)
    spread = _spread(view.weights, sample).clamp_min(1e-8)
    known = view.fixed_weights.sum(-1) + (view.weights * heavy).sum(-1)
    total = known + (view.weights * (sample > 0)).sum(-1) * n / base
    wanted = (NormalDist().inv_cdf(1 - delta) * spread * n / (epsilon * total).clamp_min(1e-8)).square()
    budget = wanted.floor().clamp(base, n).long()
    times = _times_drawn(view, budget, generator)
    p = torch.where(heavy, 1.0, (times * budget[..., None] / n).clamp_max(1.0))
    return Verified((heavy | (times > 0)).long(), p, heavy.sum(-1), torch.full_like(budget, n), budget)


def _times_drawn(view: View, size: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """How often each key is drawn [..., n] in `size` [...] draws with replacement."""
    n, most = view.scores.shape[-1], int(size.max())
    ids = torch.randint(n, (*size.shape, most), generator=generator)
    once = (torch.arange(most) < size[..., None]).float()
    return torch.zeros(*size.shape, n).scatter_add_(-1, ids, once)


def _spread(weights: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the weights drawn."""
    size = times.sum(-1)
    mean = (times * weights).sum(-1) / size
    squares = (times * (weights - mean[..., None]).square()).sum(-1)
    return (squares / (size - 1)).sqrt()
