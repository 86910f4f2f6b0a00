"""What the search asks of whoever measures, hardware or a recording of it: figures of a config at a fidelity.

Fidelities from cheap to expensive, each with the figures of a record that it finds:

    statistics    screen_error, and density and rows: a few layers and steps of one text, on captured queries and keys
    throughput    tokens_per_s with bounds and kind, step_ms, and the parts of a step
    output_error  output_error, density, rows: all layers, steps and texts, each layer fed what the exact run fed it
    kl            kl with bounds, top1, perplexity_ratio: the method decodes by itself
    tasks         scores, by task
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from truffle.model.config import DecodeConfig

Fidelity = Literal["statistics", "throughput", "output_error", "kl", "tasks"]
Problem = Literal["error", "out of memory", "crash", "hang", "not a number"]
# Of a record, what method, parameters and store format alone decide.
ACCURACY_FIGURES = (
    "screen_error", "output_error", "density", "rows", "kl", "kl_low", "kl_high", "top1", "perplexity_ratio", "scores",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Figures by their name in a record, the seconds that they took, and by name the raw values, as they were taken."""

    figures: dict[str, Any]
    seconds: float
    samples: dict[str, list[float]] = field(default_factory=dict)


class MeasureError(Exception):
    """A config that could not be measured; the text is the reason that its record gives."""

    def __init__(self, reason: str, problem: Problem = "error") -> None:
        super().__init__(reason)
        self.problem = problem


class Bench(Protocol):
    """Measures configs."""

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        """Figures of `config`. `repeat` counts earlier measurements of the same: a recording may hold several.

        Raises:
            MeasureError: there are none, and why.
        """
        ...


def require_finite(measured: Measured) -> Measured:
    """What was measured, or MeasureError where a figure is no number."""
    for name, value in measured.figures.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MeasureError(f"{name}: expected a finite number, got {value}", "not a number")
    return measured
