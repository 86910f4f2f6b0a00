"""When figures that are the same at every run say that a revision is worse: a pure function of both revisions'.

What rises is worse: bytes moved, allocated and leaked, keys retrieved, density, error, index bytes. So is what was
finite and no longer is, and an output that disagrees with the reference. What falls is told, and passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

Figures = Mapping[str, Any]
DISAGREES = "disagrees"


@dataclass(frozen=True)
class Slack:
    """How far a figure may rise: a share of the base's, and an amount."""

    share: float = 0.0
    amount: float = 0.0


# Errors move in their last digits with the order of a sum; Python's own objects with what it has cached, and the heap
# with what it has at hand.
SLACK = {
    "bytes_moved": Slack(),
    "keys_retrieved": Slack(),
    "density": Slack(share=1e-9),
    "error": Slack(share=0.01, amount=1e-5),
    "index_bytes": Slack(),
    "allocated_bytes": Slack(share=0.001, amount=4096.0),
    "leaked_bytes": Slack(amount=64.0),
}


@dataclass(frozen=True)
class Change:
    """A figure that is not what it was."""

    figure: str
    base: Any
    candidate: Any
    worse: bool

    def __str__(self) -> str:
        return f"{self.figure} {told(self.base)} -> {told(self.candidate)}"


def changes(base: Figures, candidate: Figures, control: Figures) -> list[Change]:
    """Figures that changed beyond their slack, and beyond what two runs of base differ by."""
    found = []
    for name, slack in SLACK.items():
        before, after, again = (figures.get(name) for figures in (base, candidate, control))
        worse = _worsens(before, after, again, slack)
        if worse is not None:
            found.append(Change(name, before, after, worse))
    return found + _disagreement(base.get(DISAGREES), candidate.get(DISAGREES))


def _worsens(before: float | None, after: float | None, again: float | None, slack: Slack) -> bool | None:
    """Whether a figure became worse; None where it is what it was."""
    if before is None or after is None:
        return after is None if before is not after else None
    if not (isfinite(before) and isfinite(after)):
        return isfinite(before) if isfinite(before) != isfinite(after) else None
    varies = abs(again - before) if again is not None and isfinite(again) else 0.0
    room = slack.share * abs(before) + slack.amount + varies
    return after > before if abs(after - before) > room else None


def _disagreement(base: str | None, candidate: str | None) -> list[Change]:
    return [Change(DISAGREES, base, candidate, worse=candidate is not None)] if base != candidate else []


def told(value: Any) -> str:
    """A figure for a reader."""
    if value is None:
        return "none"
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
