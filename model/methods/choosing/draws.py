"""Draws from the exact attention weights, with replacement, and one at an even spacing."""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.errors import of_draws
from truffle.model.methods.choosing.selector import Errors, Stateless, View
from truffle.model.selecting_parameters import OracleSamplingParameters, keys_of


def drawn(scores: torch.Tensor, points: torch.Tensor) -> Chosen:
    """The keys at points [..., B] in [0, 1) of the distribution function of softmax(scores), scores [..., n]."""
    shares = scores.double().softmax(-1)
    ids = torch.searchsorted(shares.cumsum(-1), points.double(), right=True).clamp_max(scores.shape[-1] - 1)
    count = torch.zeros_like(scores, dtype=torch.int64).scatter_add_(-1, ids, torch.ones_like(ids))
    return Chosen(count, points.shape[-1] * shares)


class OracleSampling(Stateless):
    """Keys in proportion to their attention: iid (MagicPIG, Definition 3.1), or systematic, of the same mean.

    A systematic sample takes the points (U + j) / B for one U: every key once for each full share of 1 / B.
    """

    def __init__(self, parameters: OracleSamplingParameters) -> None:
        self._budget, self._systematic = parameters.budget, parameters.draws == "systematic"

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        draws = self._draws(view.scores.shape[-1])
        if self._systematic:
            points = (self._random(view, 1, generator) + torch.arange(draws, device=view.q.device)) / draws
        else:
            points = self._random(view, draws, generator)
        return drawn(view.scores, points)

    def _random(self, view: View, count: int, generator: torch.Generator) -> torch.Tensor:
        """Uniform numbers [Hkv, G, count] in [0, 1)."""
        heads = view.q.shape[:-1]
        return torch.rand(*heads, count, dtype=torch.float64, device=view.q.device, generator=generator)

    def _draws(self, n: int) -> int:
        """As many as the budget says, more than there are keys too."""
        return self._budget if isinstance(self._budget, int) else keys_of(self._budget, n)

    def errors(self, view: View, chosen: Chosen) -> Errors | None:
        """Those of independent draws; a systematic sample's own spread cannot be told from one sample."""
        return None if self._systematic else of_draws(view, chosen)
