"""A uniform sample without replacement."""

from __future__ import annotations

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.errors import of_uniform
from truffle.model.methods.choosing.selector import Errors, Stateless, View
from truffle.model.selecting_parameters import UniformParameters, keys_of


def random_order(among: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random order of the keys of a mask [..., n], the other keys behind them: ids [..., n].

    Its first b are a sample without replacement, which the next few extend.
    """
    order = torch.rand(among.shape, dtype=torch.float64, device=among.device, generator=generator)
    return order.masked_fill_(~among, 2.0).argsort(-1)


def first_of(order: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """A mask of the keys [..., n] among the first `count` ([..., 1] or one for all) of an order of them."""
    among = torch.arange(order.shape[-1], device=order.device) < count
    return torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order, among.expand_as(order))


class Uniform(Stateless):
    """A budget of keys, all equally likely: p = b / n."""

    def __init__(self, parameters: UniformParameters) -> None:
        self._budget = parameters.budget

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        n = view.scores.shape[-1]
        size = keys_of(self._budget, n)
        order = random_order(torch.ones_like(view.scores, dtype=torch.bool), generator)
        return Chosen(first_of(order, size).long(), torch.full_like(view.scores, size / n))

    def errors(self, view: View, chosen: Chosen) -> Errors:
        return of_uniform(view, chosen)
