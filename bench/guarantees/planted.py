"""Keys that an index holds to be light though they are heavy: what it was made of is not what is attended to.

Nothing that quantises or hashes errs so; it is the worst case of one that does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from truffle.bench.guarantees.made import made_positions
from truffle.bench.guarantees.positions import Position
from truffle.model.methods.choosing.selector import View

MASS = 0.3  # of the attention of every head that planted keys have together
BELIEVED = 1e-4  # of an average key's weight, which an index holds each to have


@dataclass(frozen=True)
class Misjudged(View):
    """A view of which an index has seen other keys, [Hkv, n, d]."""

    seen: torch.Tensor


def seen_keys(view: View) -> torch.Tensor:
    """The keys [Hkv, n, d] that an index is made of."""
    return view.seen if isinstance(view, Misjudged) else view.keys


def planted_positions(planted: int, n: int, count: int) -> list[Position]:
    """As made_positions, isotropic, where `planted` of the n keys, equally heavy, have MASS of the attention."""
    places = made_positions("isotropic", n, count)
    return [Position(f"planted {seed}", {0: _planted(place.views[0], planted)}) for seed, place in enumerate(places)]


def _planted(view: View, planted: int) -> Misjudged:
    """The first keys exchanged."""
    total = view.fixed_scores.logsumexp(-1).logaddexp(view.scores[..., planted:].logsumexp(-1))
    shares = MASS / (1 - MASS) / planted, BELIEVED / view.scores.shape[-1]
    made = (_with_score(view.q, total + math.log(share)) for share in shares)
    keys, seen = (torch.cat([key[:, None].expand(-1, planted, -1), view.keys[:, planted:]], 1) for key in made)
    return Misjudged(view.q, keys, view.values, view.fixed_keys, view.fixed_values, seen)


def _with_score(q: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """The shortest key [Hkv, d] that every query of its group q [Hkv, G, d] gives its score [Hkv, G]."""
    return (torch.linalg.pinv(q) @ score[..., None])[..., 0] * q.shape[-1] ** 0.5
