"""What a reference method sees of one request, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch

from truffle.model.methods.choosing.chosen import Chosen


@dataclass(frozen=True)
class View:
    """One request at one step; all float32, keys outside sink and window apart from those within ("fixed").

    Attributes:
        q: [Hkv, G, d].
        keys, values: that may be chosen, [Hkv, n, d].
        fixed_keys, fixed_values: attended in any case, [Hkv, f, d].
    """

    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    fixed_keys: torch.Tensor
    fixed_values: torch.Tensor

    @cached_property
    def scores(self) -> torch.Tensor:
        """q.k / sqrt(d) of the keys that may be chosen, [Hkv, G, n]."""
        return self._scored(self.keys)

    @cached_property
    def fixed_scores(self) -> torch.Tensor:
        """The same of the fixed ones, [Hkv, G, f]."""
        return self._scored(self.fixed_keys)

    def _scored(self, keys: torch.Tensor) -> torch.Tensor:
        return self.q @ keys.transpose(-1, -2) * self.q.shape[-1] ** -0.5

    @cached_property
    def shift(self) -> torch.Tensor:
        """The largest score of a head, [Hkv, G, 1], which weights are taken relative to."""
        return torch.cat([self.fixed_scores, self.scores], -1).amax(-1, keepdim=True)

    @cached_property
    def weights(self) -> torch.Tensor:
        """e = exp(score - shift) of the keys that may be chosen, [Hkv, G, n]."""
        return (self.scores - self.shift).exp()

    @cached_property
    def fixed_weights(self) -> torch.Tensor:
        """The same of the fixed ones, [Hkv, G, f]."""
        return (self.fixed_scores - self.shift).exp()

    def estimate(self, chosen: Chosen) -> tuple[torch.Tensor, torch.Tensor]:
        """Numerator [Hkv, G, d] and denominator [Hkv, G] of attention, relative to exp(shift), fixed keys included."""
        weighed = (self.scores - self.shift + chosen.log_weight).exp().float()
        numerator = weighed @ self.values + self.fixed_weights @ self.fixed_values
        return numerator, weighed.sum(-1) + self.fixed_weights.sum(-1)

    def attend(self, chosen: Chosen) -> torch.Tensor:
        """softmax(score - ln p + ln count) . V over chosen and fixed keys, [Hkv, G, d]."""
        logits = self.scores + chosen.log_weight.float()
        most = torch.cat([self.fixed_scores, logits], -1).amax(-1, keepdim=True)
        weights, fixed = (logits - most).exp(), (self.fixed_scores - most).exp()
        total = weights.sum(-1, keepdim=True) + fixed.sum(-1, keepdim=True)
        return (weights @ self.values + fixed @ self.fixed_values) / total


def view_of(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, sink: int, window: int) -> View:
    """What a query q [H, d] sees of all keys and values [Hkv, n, d] of its request, under a sink and a window."""
    keys, values = keys.float(), values.float()
    end = max(sink, keys.shape[1] - window)
    fixed_keys, fixed_values = (torch.cat([x[:, :sink], x[:, end:]], 1) for x in (keys, values))
    grouped = q.float().unflatten(0, (keys.shape[0], -1))
    return View(grouped, keys[:, sink:end], values[:, sink:end], fixed_keys, fixed_values)


@dataclass(frozen=True)
class Errors:
    """Standard errors of one step by head, estimated from the sample that it drew.

    Attributes:
        denominator: of the sum of weights, relative to it.
        output: root mean square of the output's error, relative to the output's norm.
    """

    denominator: torch.Tensor
    output: torch.Tensor


class Selector(Protocol):
    """Chooses keys of one request in one layer. What it keeps follows from the keys, its settings and its seed."""

    def add(self, keys: torch.Tensor) -> None:
        """Take the next keys that may be chosen, [Hkv, m, d]."""
        ...

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        """Choose among the keys added so far, all of which the view holds; [Hkv, G, n]."""
        ...

    def errors(self, view: View, chosen: Chosen) -> Errors | None:
        """How far what it chose may be off, [Hkv, G] each; None where the sample does not tell."""
        ...


class Stateless:
    """The parts of a selector that keeps nothing and does not know its error."""

    def add(self, keys: torch.Tensor) -> None:
        """Keep nothing."""

    def errors(self, view: View, chosen: Chosen) -> Errors | None:
        """Not known."""
        return None
