"""Errors of LSH sampling from the tables themselves: keys share planes, so that formulas for independent keys fail.

Taken as independent, the sampled keys claim intervals that hold in 55 to 84% of the cases instead of 95. Tables are
independent of each other, so the spread between tables, or between groups of them, is what the error is. Over fixed
tables this speaks of the draw of the planes: errors of similar queries repeat from step to step. (METHODS 0.5b.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.families import law_of

if TYPE_CHECKING:
    from truffle.model.methods.choosing.collisions import Collisions

GROUPS = 5  # of tables; the interval of a jackknife over these uses Student's t with 4 degrees, 2.776 for 95%


@dataclass(frozen=True)
class TableEstimate:
    """Attention as every table alone estimates it, relative to exp(view.shift), fixed and open keys included.

    Attributes:
        numerators: [Hkv, G, L, d]; denominators: [Hkv, G, L].
    """

    numerators: torch.Tensor
    denominators: torch.Tensor

    @property
    def output(self) -> torch.Tensor:
        """Mean numerator over mean denominator, [Hkv, G, d]."""
        return self.numerators.mean(2) / self.denominators.mean(2)[..., None]

    @property
    def errors(self) -> Errors:
        """From the spread between tables, which are independent; of the output to first order."""
        tables, denominator = self.denominators.shape[-1], self.denominators.mean(2)
        apart = self.numerators - self.denominators[..., None] * self.output[:, :, None]  # sums to 0 over tables
        of_output = (apart.square().sum((-1, -2)) / (tables - 1) / tables).sqrt() / denominator
        of_denominator = self.denominators.std(-1) / tables**0.5
        return Errors(of_denominator / denominator, of_output / self.output.norm(dim=-1))


def by_table(collisions: Collisions, view: View) -> TableEstimate:
    """The estimate of one table: its bucket's keys, weighed by 1 / P for the probability P that a table gives a key.

    Averaged over tables it is unbiased, and each key counts by the tables that hold it, so it needs no `min_hits`.

    Raises:
        ValueError: the query directs the probes; P then differs from table to table.
    """
    p = collisions.parameters
    if p.probing.kind == "directed":
        raise ValueError("probing: expected none or a ball, whose law is the same for every table, got directed")
    hits, _ = collisions.hits(collisions.question(view))
    alone = collisions.inclusion(view, law_of(p.model_copy(update={"L": 1, "min_hits": 1})))
    hashed = hits.shape[-1]
    weighed = hits * (view.weights[..., :hashed] / alone)[:, :, None]  # [Hkv, G, L, m]
    exact = view.weights[..., hashed:]
    denominator = exact.sum(-1) + view.fixed_weights.sum(-1)
    numerator = exact @ view.values[:, hashed:] + view.fixed_weights @ view.fixed_values
    values = view.values[:, None, :hashed]
    return TableEstimate(weighed @ values + numerator[:, :, None], weighed.sum(-1) + denominator[..., None])


def jackknife(collisions: Collisions, view: View) -> Errors | None:
    """From what becomes of the estimate without one group of tables at a time: se^2 = (G - 1) / G sum (x_g - mean)^2.

    None where a group's absence would leave fewer tables than `min_hits`.
    """
    p = collisions.parameters
    parts = [[table for table in range(p.L) if table % GROUPS != group] for group in range(GROUPS)]
    if min(map(len, parts)) < max(p.min_hits, GROUPS - 1):
        return None
    question = collisions.question(view)
    without = [view.estimate(_sample(collisions, view, question, tables)) for tables in parts]
    denominators = torch.stack([denominator for _, denominator in without])
    outs = torch.stack([numerator / denominator[..., None] for numerator, denominator in without])
    spread, spread_of_outs = (_spread(x) for x in (denominators[..., None], outs))
    return Errors(spread / denominators.mean(0), spread_of_outs / outs.mean(0).norm(dim=-1))


def _sample(collisions: Collisions, view: View, question: torch.Tensor, tables: list[int]) -> Chosen:
    """What these tables alone would have sampled."""
    hits, law = collisions.hits(question, tables)
    certain = torch.ones(*hits.shape[:2], collisions.open, device=hits.device)
    taken = torch.cat([hits.sum(2) >= collisions.parameters.min_hits, certain.bool()], -1)
    return Chosen(taken.long(), torch.cat([collisions.inclusion(view, law), certain], -1))


def _spread(x: torch.Tensor) -> torch.Tensor:
    """The jackknife's standard error of x [groups, ..., m], as a length over the last axis."""
    return ((len(x) - 1) / len(x) * (x - x.mean(0)).square().sum((0, -1))).sqrt()
