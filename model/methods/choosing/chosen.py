"""Keys chosen for a query, with how likely each was: what every method comes down to."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Chosen:
    """What a selector took of n keys, for any number of heads in the leading axes.

    Over the keys with a count, sum(count * e * v / p) estimates sum(e * v) over all n, for weights e = exp(score), and
    likewise without v. Three meanings of p: the probability that a key is in the sample; for draws with replacement
    the expected count, which may exceed 1; and 1 for what is taken with certainty.

    Attributes:
        count: how often each key was taken, 0 where it was not, [..., n] int64.
        p: [..., n] float32 or float64, above 0 where count is; of keys not taken too, as far as they could have been.
    """

    count: torch.Tensor
    p: torch.Tensor

    @property
    def log_weight(self) -> torch.Tensor:
        """ln count - ln p, what is added to a key's score, -inf where it was not taken; [..., n]."""
        return torch.where(self.count > 0, self.count.to(self.p.dtype).log() - self.p.log(), -torch.inf)

    @property
    def keys(self) -> torch.Tensor:
        """Distinct keys taken, [...] int64."""
        return (self.count > 0).sum(-1)

    def packed(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids of the keys taken, in order, their p and their count, [..., m] each, m the most that a head took.

        A head that took fewer is filled up with count 0.
        """
        most = int(self.keys.max()) if self.keys.numel() else 0
        ids = (self.count == 0).long().argsort(dim=-1, stable=True)[..., :most]
        return ids, self.p.gather(-1, ids), self.count.gather(-1, ids)


def certainly(taken: torch.Tensor) -> Chosen:
    """The keys of a mask [..., n], which are taken whatever is drawn."""
    return Chosen(taken.long(), taken.float())


def union(a: Chosen, b: Chosen) -> Chosen:
    """Keys that one or both of two independent samples took: p = 1 - (1 - p_a)(1 - p_b), of all keys.

    Both must know p of the keys that only the other took, and take a key once at most.
    """
    either = ((a.count > 0) | (b.count > 0)).long()
    return Chosen(either, a.p + b.p - a.p * b.p)
