"""Priority sampling by exact weights: the few keys that a weighted sample without replacement needs."""

from __future__ import annotations

import numpy as np
import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.errors import of_independent
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.choosing.top import largest
from truffle.model.selecting_parameters import PriorityParameters, keys_of


def prioritised(scores: torch.Tensor, log_u: torch.Tensor, count: int) -> Chosen:
    """The `count` keys of the largest w / u, for w = exp(scores) and ln u of shape [..., n].

    The next largest is the threshold tau, and p = min(1, w / tau). Sums are unbiased over u, and the errors of two
    keys uncorrelated (Duffield, Lund, Thorup, JACM 2007); attention by one search over lifted keys: METHODS 4.2.
    """
    if count >= scores.shape[-1]:
        return Chosen(torch.ones_like(scores, dtype=torch.int64), torch.ones_like(scores))
    lifted = scores - log_u
    threshold = lifted.topk(count + 1, dim=-1).values[..., -1:]
    return Chosen(largest(lifted, count).long(), (scores - threshold).clamp_max(0).exp())


class Priority:
    """Priority sampling over one uniform number a key, drawn when it comes and shared by the group's heads."""

    def __init__(self, parameters: PriorityParameters, layer: int) -> None:
        self._budget = parameters.budget
        self._generator = np.random.default_rng([parameters.seed, layer])
        self.log_u = torch.empty(0)

    def add(self, keys: torch.Tensor) -> None:
        heads, m, _ = keys.shape
        u = 1.0 - self._generator.random((m, heads))  # in (0, 1], the same however keys come
        added = torch.from_numpy(np.log(u).T.copy()).float().to(keys.device)
        self.log_u = torch.cat([self.log_u, added], 1) if self.log_u.numel() else added

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        return prioritised(view.scores, self.log_u[:, None], keys_of(self._budget, view.scores.shape[-1]))

    def errors(self, view: View, chosen: Chosen) -> Errors:
        return of_independent(view, chosen)
