"""Who finds the heavy set that vAttention attends with certainty."""

from __future__ import annotations

from typing import Protocol

import torch

from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.quest import Pages, pages_of
from truffle.model.methods.choosing.selector import View
from truffle.model.methods.choosing.top import largest
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import VAttentionParameters, keys_of


class HeavySet(Protocol):
    """Finds the keys that matter most, as well as it can."""

    def add(self, keys: torch.Tensor) -> None:
        """Take the next keys, [Hkv, m, d]."""
        ...

    def find(self, view: View) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A mask [Hkv, G, n], and a score that none of the others is above, [Hkv, G], if one is known."""
        ...


def heavy_set(p: VAttentionParameters, layer: int, head_dim: int, ops: Operations) -> HeavySet:
    """The one that the parameters name."""
    if p.heavy == "lsh":
        return MostHits(p.heavy_budget, Collisions(p.tables, layer, head_dim, ops))
    return BestPages(p.heavy_budget, Pages(p.page_size)) if p.heavy == "quest" else TopScores(p.heavy_budget)


class TopScores:
    """The exact top-k; the smallest score kept bounds the rest."""

    def __init__(self, budget: int | float) -> None:
        self._budget = budget

    def add(self, keys: torch.Tensor) -> None:
        """Keep nothing."""

    def find(self, view: View) -> tuple[torch.Tensor, torch.Tensor | None]:
        taken = largest(view.scores, keys_of(self._budget, view.scores.shape[-1]))
        return taken, view.scores.masked_fill(~taken, torch.inf).amin(-1)


class BestPages:
    """Quest's pages; the best bound of the pages left bounds the rest."""

    def __init__(self, budget: int | float, pages: Pages) -> None:
        self._budget, self._pages = budget, pages

    def add(self, keys: torch.Tensor) -> None:
        self._pages.add(keys)

    def find(self, view: View) -> tuple[torch.Tensor, torch.Tensor | None]:
        bounds = self._pages.bounds(view.q)
        best = largest(bounds, pages_of(self._budget, view.keys.shape[1], self._pages.size))
        return self._pages.keys_in(best), bounds.masked_fill(best, -torch.inf).amax(-1)


class MostHits:
    """The keys that most tables give, of those that `min_hits` do; what is not hashed yet belongs to the rest."""

    def __init__(self, budget: int | float, collisions: Collisions) -> None:
        self._budget, self._collisions = budget, collisions

    def add(self, keys: torch.Tensor) -> None:
        self._collisions.add(keys)

    def find(self, view: View) -> tuple[torch.Tensor, torch.Tensor | None]:
        tables = self._collisions.table_hits(view)
        most = largest(tables, keys_of(self._budget, tables.shape[-1]))
        return most & (tables >= self._collisions.parameters.min_hits), None
