"""Top-k and top-p by exact scores: what a perfect search would find. Biased: what is left out counts as nothing."""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen, certainly
from truffle.model.methods.choosing.selector import Stateless, View
from truffle.model.selecting_parameters import OracleTopKParameters, OracleTopPParameters, keys_of


def largest(x: torch.Tensor, count: int) -> torch.Tensor:
    """A mask of the `count` largest of x [..., n]."""
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, x.topk(count, dim=-1).indices, True)


def holding(weights: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """A mask of the fewest of weights [..., n] that add up to `wanted` [...], all of them if even those do not."""
    order = weights.argsort(dim=-1, descending=True)
    ordered = weights.gather(-1, order).double()
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(weights, dtype=torch.bool).scatter_(-1, order, before < wanted[..., None])


class OracleTopK(Stateless):
    """The keys of the largest scores."""

    def __init__(self, parameters: OracleTopKParameters) -> None:
        self._budget = parameters.budget

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        return certainly(largest(view.scores, keys_of(self._budget, view.scores.shape[-1])))


class OracleTopP(Stateless):
    """The fewest keys that, with the fixed ones, hold a share of the whole softmax (hub's top-p; METHODS 3.2)."""

    def __init__(self, parameters: OracleTopPParameters) -> None:
        self._mass = parameters.mass

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        fixed = view.fixed_weights.double().sum(-1)
        wanted = self._mass * (fixed + view.weights.double().sum(-1)) - fixed
        return certainly(holding(view.weights, wanted))
