"""vAttention (arXiv 2510.05688): a heavy set, and of the rest a uniform sample that is made large enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.enough import by_bernstein, by_hoeffding, by_normal, certainly_enough
from truffle.model.methods.choosing.errors import of_uniform
from truffle.model.methods.choosing.heavy import HeavySet, heavy_set
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.choosing.uniform import first_of, random_order
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import LEAST_BASE, VAttentionParameters, keys_of


@dataclass(frozen=True)
class Verified(Chosen):
    """Keys of a heavy set and a sample of the rest.

    Attributes:
        heavy: keys of the heavy set; rest: the others; budget: keys of the rest that were drawn; [Hkv, G] int64.
    """

    heavy: torch.Tensor
    rest: torch.Tensor
    budget: torch.Tensor


class VAttention:
    """A base sample of the keys that are not heavy, without replacement, extended until the error is small enough."""

    def __init__(self, parameters: VAttentionParameters, layer: int, head_dim: int, ops: Operations) -> None:
        self._p = parameters
        self._heavy: HeavySet = heavy_set(parameters, layer, head_dim, ops)

    def add(self, keys: torch.Tensor) -> None:
        self._heavy.add(keys)

    def select(self, view: View, generator: torch.Generator) -> Verified:
        heavy, ceiling = self._heavy.find(view)
        rest, order = (~heavy).sum(-1), random_order(~heavy, generator)
        base = max(LEAST_BASE, keys_of(self._p.base_budget, heavy.shape[-1]))
        asked = self._asked(view, heavy, ceiling, rest, order, base)
        budget = asked.clamp_min(base).minimum(rest)
        taken = heavy | first_of(order, budget[..., None]) & ~heavy
        p = torch.where(heavy, 1.0, (budget / rest.clamp_min(1))[..., None])
        return Verified(taken.long(), p, heavy.sum(-1), rest, budget)

    def _asked(
        self, view: View, heavy: torch.Tensor, ceiling: torch.Tensor | None, rest: torch.Tensor, order: torch.Tensor,
        base: int,
    ) -> torch.Tensor:  # fmt: skip
        """Keys of the rest [Hkv, G] that the error bound asks for, base or not."""
        p, fixed = self._p, (view.weights * heavy).sum(-1) + view.fixed_weights.sum(-1)
        if p.bound == "clt":
            sample = first_of(order, rest.clamp_max(base)[..., None])
            return self._asked_by_normal(view, heavy, sample, fixed, rest)
        assert ceiling is not None
        half_width = by_bernstein if p.bound == "bernstein" else by_hoeffding
        most, drawn = (ceiling - view.shift[..., 0]).exp(), view.weights.gather(-1, order)
        return certainly_enough(drawn, rest, fixed, most, base, p.epsilon, p.delta, half_width)

    def _asked_by_normal(
        self, view: View, heavy: torch.Tensor, sample: torch.Tensor, fixed: torch.Tensor, rest: torch.Tensor
    ) -> torch.Tensor:
        """From spread and totals as the base estimates them.

        Where both are checked, each sum has half of delta, and epsilon / 2 is split in proportion to their spreads,
        which makes the larger of their two samples least (the paper's Lemma 4.2 and Theorem 4.3).
        """
        p, e = self._p, view.weights * sample
        ones = torch.ones_like(view.values[..., :1])
        spread, mean = _moments(e, sample.sum(-1), ones)
        relative = rest * spread / (fixed + rest * mean[..., 0])
        if p.check == "denominator":
            return by_normal(relative, p.epsilon, p.delta, rest)
        spread, mean = _moments(e, sample.sum(-1), view.values)
        known = (view.weights * heavy) @ view.values + view.fixed_weights @ view.fixed_values
        relative = relative + rest * spread / (known + rest[..., None] * mean).norm(dim=-1)
        return by_normal(relative, p.epsilon / 2, p.delta / 2, rest)

    def errors(self, view: View, chosen: Chosen) -> Errors:
        return of_uniform(view, chosen)


def _moments(e: torch.Tensor, size: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard deviation [Hkv, G] and mean [Hkv, G, m] of e v over a sample, outside of which e [Hkv, G, n] is 0.

    That of a vector is the root of the trace of its covariance.
    """
    size = size.clamp_min(1)
    mean = e @ values / size[..., None]
    squares = (e.square() @ values.square().sum(-1)[..., None])[..., 0] / size
    apart = (squares - mean.square().sum(-1)).clamp_min(0)
    return (apart * size / (size - 1).clamp_min(1)).sqrt(), mean
