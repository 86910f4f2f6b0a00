"""What tasks ask of attention, without a model: keys, values and queries of which the answer is known.

A value is one of d orthonormal codes, so that an attention output says how much weight each code's keys got, and the
answer is read off it as the heaviest codes. Keys lie on a cone, as those of real models do: around a common offset
that no query sees. Query and key directions are scaled so that other keys' scores are N(0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

OFFSET = 3.0
MARGIN = 4.0  # log of the weight that a planted key has over all others together
EDGE = 64  # nothing is planted in sink or window, which methods attend exactly
FREQUENT, FREQUENT_SHARE = 3, 0.15
LOUD, LOUD_SHARE, LOUDER = 3, 0.01, 1.5
FLAT = 0.3  # deviation of scores where weights are broad

# q [d], keys [n, d], values [n, d] to what attention over them gives, [d]; scores are q.k / sqrt(d).
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Planted:
    """One key/value head with questions whose answers are known.

    Attributes:
        keys, values: float32 [n, d].
        queries: float32 [Q, d].
        codes: the orthonormal values, float32 [d, d], by code.
        answers: codes, int64 [Q, m] by query.
        chained: each answer is the number of the next query, from query 0 on, of which `links` are asked.
    """

    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor
    codes: torch.Tensor
    answers: torch.Tensor
    links: int | None = None

    def score(self, attend: Attend) -> float:
        """0 to 100: the share of answers among the heaviest codes, or of links followed before the first error."""
        if self.links is not None:
            return 100.0 * self._followed(attend) / self.links
        found = [self._heaviest(attend, query) for query in range(len(self.queries))]
        hits = [torch.isin(codes, answer) for codes, answer in zip(found, self.answers, strict=True)]
        return 100.0 * float(torch.stack(hits).float().mean())

    def output_error(self, attend: Attend) -> float:
        """Mean over queries of the output's relative error against exact attention."""
        errors = []
        for q in self.queries:
            right = exact(q, self.keys, self.values)
            errors.append((attend(q, self.keys, self.values).to(right) - right).norm() / right.norm())
        return float(torch.stack(errors).mean())

    def _heaviest(self, attend: Attend, query: int) -> torch.Tensor:
        out = attend(self.queries[query], self.keys, self.values)
        return (self.codes @ out.to(self.codes)).topk(self.answers.shape[1]).indices

    def _followed(self, attend: Attend) -> int:
        at, right = 0, 0
        while right < (self.links or 0) and (found := int(self._heaviest(attend, at))) == int(self.answers[at]):
            at, right = found, right + 1
        return right


def exact(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attention over everything."""
    return (keys @ q / math.sqrt(len(q))).softmax(0) @ values


def fewest_keys(d: int) -> int:
    """Keys below which there is no room to plant."""
    return 2 * EDGE + 4 * d


class _Plot:
    """Where things are planted: directions, codes, and keys that mean nothing yet."""

    def __init__(self, n: int, d: int, seed: int) -> None:
        if n < fewest_keys(d):
            raise ValueError(f"n: expected at least {fewest_keys(d)} keys at d = {d}, got {n}")
        if d < 8:
            raise ValueError(f"d: expected at least 8, got {d}")
        self.n, self.d = n, d
        self.generator = torch.Generator().manual_seed(seed)
        basis, self.codes = self._orthonormal(), self._orthonormal()
        self.directions = basis[1:]  # the first is the cone's
        self.keys = torch.randn(n, d, generator=self.generator)
        self.keys -= self.keys @ basis[0][:, None] * basis[0]
        self.keys += OFFSET * math.sqrt(d) * basis[0]
        self.labels = torch.randint(d, (n,), generator=self.generator)

    def _orthonormal(self) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(self.d, self.d, generator=self.generator))[0].T

    def places(self, count: int) -> torch.Tensor:
        """Different positions outside sink and window, [count]."""
        return EDGE + torch.randperm(self.n - 2 * EDGE, generator=self.generator)[:count]

    def plant(self, places: torch.Tensor, direction: torch.Tensor, answers: torch.Tensor, share: float) -> None:
        """Give keys the score along `direction` with which each has `share` of what outweighs all others."""
        loud = math.log(self.n) + 0.5 + MARGIN + math.log(share)
        self.keys[places] += (loud - self.keys[places] @ direction)[:, None] * direction
        self.labels[places] = answers

    def done(self, queries: torch.Tensor, answers: torch.Tensor, links: int | None = None) -> Planted:
        scaled = queries * math.sqrt(self.d)
        return Planted(self.keys, self.codes[self.labels], scaled, self.codes, answers, links)


def needle(n: int = 4096, d: int = 64, seed: int = 0, queries: int = 16) -> Planted:
    """One key holds the answer to each query, with 98% of the weight: sampling has to find it, guessing cannot."""
    return _peaks(n, d, seed, queries, 1)


def multivalue(n: int = 4096, d: int = 64, seed: int = 0, queries: int = 16) -> Planted:
    """Four keys of equal weight hold a code each that is asked for."""
    return _peaks(n, d, seed, queries, 4)


def _peaks(n: int, d: int, seed: int, queries: int, peaks: int) -> Planted:
    plot = _Plot(n, d, seed)
    _require(queries, d, "queries")
    places = plot.places(queries * peaks).view(queries, peaks)
    answers = torch.stack([torch.randperm(d, generator=plot.generator)[:peaks] for _ in range(queries)])
    for where, direction, codes in zip(places, plot.directions, answers, strict=False):
        plot.plant(where, direction, codes, 1 / peaks)
    return plot.done(plot.directions[:queries], answers)


def frequency(n: int = 4096, d: int = 64, seed: int = 0, queries: int = 16) -> Planted:
    """Which three codes do most keys have: weights are broad, and the heaviest keys are of three rare codes.

    Top-k takes those and answers with their codes; two hundred fairly sampled keys suffice.
    """
    plot = _Plot(n, d, seed)
    _require(queries, d, "queries")
    order = torch.randperm(d, generator=plot.generator)
    frequent, loud, rest = order[:FREQUENT], order[FREQUENT : FREQUENT + LOUD], order[FREQUENT + LOUD :]
    shares = torch.full((d,), (1 - FREQUENT * FREQUENT_SHARE - LOUD * LOUD_SHARE) / len(rest))
    shares[frequent], shares[loud] = FREQUENT_SHARE, LOUD_SHARE
    plot.labels = torch.multinomial(shares, n, replacement=True, generator=plot.generator)
    asked = plot.directions[:queries]
    plot.keys -= (1 - FLAT) * plot.keys @ asked.T @ asked
    plot.keys[torch.isin(plot.labels, loud)] += LOUDER * asked.sum(0)
    return plot.done(asked, frequent.expand(len(asked), -1))


def chain(n: int = 4096, d: int = 64, seed: int = 0, links: int = 5) -> Planted:
    """Each answer is the next query: one that is missed loses all that follow, and every code leads somewhere."""
    plot = _Plot(n, d, seed)
    count = d - 1
    _require(links, d, "links")
    following = (torch.arange(count) + 1) % count
    order = torch.randperm(count, generator=plot.generator)
    nexts = torch.empty_like(order)
    nexts[order] = order[following]
    for place, direction, code in zip(plot.places(count), plot.directions, nexts, strict=True):
        plot.plant(place[None], direction, code[None], 1.0)
    return plot.done(plot.directions, nexts[:, None], links)


def _require(asked: int, d: int, name: str) -> None:
    if not 1 <= asked < d:
        raise ValueError(f"{name}: expected 1 to {d - 1}, got {asked}")


PLANTED = {"needle": needle, "multivalue": multivalue, "frequency": frequency, "chain": chain}
