"""What a scan's sample states of its own error, and how often it is further off than epsilon allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from truffle.bench.guarantees.coverage import Draw, Stated
from truffle.bench.guarantees.planted import seen_keys
from truffle.bench.guarantees.positions import Position
from truffle.bench.guarantees.violations import Off, exactly, summary
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.scan import Scanned
from truffle.model.methods.choosing.selector import View
from truffle.model.operations import Operations
from truffle.model.scan_parameters import ScanParameters

BUDGET = 0.05  # of a sample of which the interval is looked at
FLOORS = [{"bits": 4, "floor": floor} for floor in (0.0, 0.3)]
SAMPLES = [*({"bits": bits, "per": per} for per in ("group", "head") for bits in (4, 2, 1)), *FLOORS]
CLAIMS = [*SAMPLES, *({"bits": 4, "per": per, "check": "both"} for per in ("group", "head"))]
PLANTED = [{"bits": 4, "floor": floor} for floor in (0.0, 0.1, 0.3)]


def intervals(settings: Sequence[dict[str, Any]]) -> dict[str, Draw]:
    """Methods of measure_coverage, by name."""
    samples = [ScanParameters(budget=BUDGET, seal_tokens=1, **some) for some in settings]
    return {name_of(p): _drawing(p) for p in samples}


def name_of(p: ScanParameters) -> str:
    """What of it is measured apart."""
    return f"scan {p.bits} bits, {p.per}, floor {p.floor:g}"


def _drawing(p: ScanParameters) -> Draw:
    def draw(view: View, layer: int, seed: int, ops: Operations) -> tuple[Stated, None]:
        method = _made(p, view, layer, seed, ops)
        chosen = method.select(view, torch.Generator())
        return Stated(view.estimate(chosen), method.errors(view, chosen)), None

    return draw


def _made(p: ScanParameters, view: View, layer: int, seed: int, ops: Operations) -> Scanned:
    method = Scanned(p.model_copy(update={"seed": seed}), layer, view.q.shape[-1], ops)
    method.add(seen_keys(view))
    return method


def measure_scan_claims(
    places: Sequence[Position],
    epsilons: Sequence[float],
    keys: int,
    draws: int,
    ops: Operations,
    settings: Sequence[dict[str, Any]] = CLAIMS,
) -> Iterator[dict[str, Any]]:
    """A flat record a setting and epsilon, which is delta too, as measure_claims has them.

    Args:
        keys: drawn first by a row; draws: redraws of each sample, with the rotation of its codes.
    """
    for some in settings:
        for epsilon in epsilons:
            p = ScanParameters(budget=keys, seal_tokens=1, epsilon=epsilon, delta=epsilon, **some)
            offs = [
                [_off(view, layer, range(first, first + draws), p, ops) for layer, view in place.views.items()]
                for first, place in zip(range(0, draws * len(places), draws), places, strict=True)
            ]
            claim = {"heavy": name_of(p), "bound": "clt", "check": p.check, "epsilon": epsilon, "delta": epsilon}
            of = {"method": "scan", "bits": p.bits, "per": p.per, "floor": p.floor}
            yield of | claim | summary(offs, epsilon, p.check)


def _off(view: View, layer: int, seeds: range, p: ScanParameters, ops: Operations) -> Off:
    drawn = [_drawn(view, layer, seed, p, ops) for seed in seeds]
    return Off(*(torch.stack(parts, -1) for parts in zip(*(vars(off).values() for off in drawn), strict=True)))


def _drawn(view: View, layer: int, seed: int, p: ScanParameters, ops: Operations) -> Off:
    first, raised = (_choice(some, view, layer, seed, ops) for some in (p.fixed, p))
    return Off.of(view, raised, exactly(view), raised.keys, raised.keys > first.keys)


def _choice(p: ScanParameters, view: View, layer: int, seed: int, ops: Operations) -> Chosen:
    return _made(p, view, layer, seed, ops).select(view, torch.Generator())
