"""How often an interval that a method states about its own error holds, beside the 95% that it should.

An interval is a number of standard errors: 1.96, or for the jackknife over 5 groups 2.776 (Student's t with 4 degrees).
Of an output the length of the error is held to as many root mean squares, which at 95% covers no less, whatever the
error's covariance, where it is normal (Szekely and Bakirov 2003: one direction alone has the longest tail).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from truffle.bench.guarantees.intervals import clustered
from truffle.bench.guarantees.positions import Position
from truffle.bench.guarantees.violations import exactly
from truffle.model.methods.choosing.collisions import Collisions
from truffle.model.methods.choosing.errors import of_independent
from truffle.model.methods.choosing.methods import selector_of
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.choosing.table_errors import by_table
from truffle.model.operations import Operations
from truffle.model.parameters import LshParameters
from truffle.model.selecting_parameters import (
    OracleSamplingParameters,
    PriorityParameters,
    SelectingParameters,
    UniformParameters,
    VAttentionParameters,
)

NORMAL, STUDENT = 1.96, 2.776
ROUNDING = 1e-5  # relative, in float32, where an error is nothing
NOMINAL = 0.95


@dataclass(frozen=True)
class Stated:
    """An estimate, numerator [Hkv, G, d] and denominator [Hkv, G], and what is said of its error."""

    estimate: tuple[torch.Tensor, torch.Tensor]
    errors: Errors
    factor: float = NORMAL


# A view, its layer and a seed to what is stated, and for LSH what would be if keys were independent.
Draw = Callable[[View, int, int, Operations], tuple[Stated, Stated | None]]


def _sampled(p: SelectingParameters) -> Draw:
    def draw(view: View, layer: int, seed: int, ops: Operations) -> tuple[Stated, None]:
        method = selector_of(p.model_copy(update={"seed": seed}), layer, view.q.shape[-1], ops)
        method.add(view.keys)
        chosen = method.select(view, torch.Generator().manual_seed(seed))
        errors = method.errors(view, chosen)
        assert errors is not None
        return Stated(view.estimate(chosen), errors), None

    return draw


def _tables(p: LshParameters, alone: bool) -> Draw:
    """From every table's own estimate, or from the groups of the jackknife."""

    def draw(view: View, layer: int, seed: int, ops: Operations) -> tuple[Stated, Stated]:
        tables = Collisions(p.model_copy(update={"seed": seed}), layer, view.q.shape[-1], ops)
        tables.add(view.keys)
        chosen = tables.select(view, torch.Generator())
        estimate = view.estimate(chosen)
        naive = Stated(estimate, of_independent(view, chosen))
        if alone:
            found = by_table(tables, view)
            return Stated((found.numerators.mean(2), found.denominators.mean(2)), found.errors), naive
        errors = tables.errors(view, chosen)
        assert errors is not None
        return Stated(estimate, errors, STUDENT), naive

    return draw


BUDGET = 0.05
METHODS: dict[str, Draw] = {
    "priority": _sampled(PriorityParameters(budget=BUDGET)),
    "oracle_sampling": _sampled(OracleSamplingParameters(budget=BUDGET)),
    "uniform": _sampled(UniformParameters(budget=BUDGET)),
    "vattention": _sampled(VAttentionParameters(heavy_budget=BUDGET / 2, base_budget=BUDGET / 2)),
    "lsh by table (10, 75)": _tables(LshParameters(K=10, L=75, min_hits=1, seal_tokens=1), True),
    "lsh jackknife (10, 75) min_hits 1": _tables(LshParameters(K=10, L=75, min_hits=1, seal_tokens=1), False),
    "lsh jackknife (8, 75) min_hits 2": _tables(LshParameters(K=8, L=75, seal_tokens=1), False),
}


def measure_coverage(
    places: Sequence[Position], draws: int, ops: Operations, methods: Mapping[str, Draw] = METHODS
) -> Iterator[dict[str, Any]]:
    """A flat record a method: shares of `draws` redraws of the sample (of the planes, for LSH) that were covered.

    `output_claimed` is the root mean square of the output's estimated errors over that of the observed ones.
    """
    numbered = [(draws * number, place) for number, place in enumerate(places)]
    for name, draw in methods.items():
        found = [_at_position(place, draw, range(first, first + draws), ops) for first, place in numbered]
        yield {"method": name, "nominal": NOMINAL, "draws": draws * sum(part["heads"] for part in found),
               **_shares("coverage", [part["covered"] for part in found]),
               **_shares("naive_coverage", [part["naive"] for part in found]),
               **_shares("output_coverage", [part["output"] for part in found]),
               "denominator_error": _mean([part["off"] for part in found]) ** 0.5,
               "output_error": _mean([part["observed"] for part in found]) ** 0.5,
               "output_claimed": _ratio(found) ** 0.5}  # fmt: skip


def _at_position(place: Position, draw: Draw, seeds: range, ops: Operations) -> dict[str, Any]:
    """Means over layers, heads and redraws."""
    heads = sum(view.q.shape[:2].numel() for view in place.views.values())
    found: dict[str, list[torch.Tensor]] = {}
    for layer, view in place.views.items():
        whole, total = exactly(view)
        for seed in seeds:
            stated, naive = draw(view, layer, seed, ops)
            parts = {"covered": _covered(stated, total), **_of_output(stated, whole / total[..., None])}
            parts["off"] = (stated.estimate[1] / total - 1).square()
            if naive:
                parts["naive"] = _covered(naive, total)
            for name, part in parts.items():
                found.setdefault(name, []).append(part.double().mean())
    means = {name: float(torch.stack(parts).mean()) for name, parts in found.items()}
    return {"heads": heads, "naive": None} | means


def _covered(stated: Stated, total: torch.Tensor) -> torch.Tensor:
    _, denominator = stated.estimate
    half_width = (stated.factor * stated.errors.denominator + ROUNDING) * denominator
    return (denominator - total).abs() <= half_width


def _of_output(stated: Stated, exact: torch.Tensor) -> dict[str, torch.Tensor]:
    numerator, denominator = stated.estimate
    out = numerator / denominator[..., None]
    off, claimed = (out - exact).norm(dim=-1), stated.errors.output * out.norm(dim=-1)
    scale = exact.norm(dim=-1)
    return {
        "output": off <= stated.factor * claimed + ROUNDING * scale,
        "observed": (off / scale).square(), "claimed": (claimed / scale).square(),
    }  # fmt: skip


def _shares(name: str, shares: list[float | None]) -> dict[str, float | None]:
    known = [share for share in shares if share is not None]
    mean, low, high = clustered(known) if known else (None, None, None)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _ratio(found: list[dict[str, Any]]) -> float:
    return _mean([part["claimed"] for part in found]) / _mean([part["observed"] for part in found])
