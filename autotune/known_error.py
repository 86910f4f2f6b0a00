"""How far the cost model's predictions were off where steps were measured: the interval of what it estimates.

Back-tests lie in `backtests` beside this file, and the user's own in the cache folder (`autotune backtest --keep`).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from truffle.bench import host_file
from truffle.kernels.checks import ArgumentError
from truffle.kernels.hardware import Frozen
from truffle.kernels.profiles import GpuProfile

FOLDER = Path(__file__).parent / "backtests"
ALL, FEWEST = "all", 4  # steps that a method's own error takes


class Errors(Frozen):
    """Of |predicted / measured - 1|: median, quantiles and the largest; `bias` is the median with its sign."""

    steps: int
    median: float
    p80: float
    p90: float
    most: float
    bias: float


class Backtest(Frozen):
    """A back-test's outcome.

    Attributes:
        gpu: the card's profile, or None.
        cpu: the host.
        host_part: whether the host's part of a step was ``predicted``, or ``measured`` in the step's own trace.
        errors: over all steps, and by method.
        steps: each beside its prediction, where they are kept.
        command: what was run.
    """

    created: str
    gpu: str | None
    cpu: str
    host_part: str
    quantile: str
    sources: tuple[str, ...]
    errors: dict[str, Errors]
    steps: tuple[dict[str, Any], ...] = ()
    command: str = ""


class KnownError(Frozen):
    """The error that an estimate is shown with.

    Attributes:
        host_part: as in the back-test.
        here: whether it was found on a card of the same kind.
    """

    errors: Errors
    host_part: str
    where: str
    here: bool

    def seconds(self, step_s: float) -> tuple[float, float]:
        """Between which nine in ten of the back-tested steps that were predicted to take `step_s` lay."""
        most = min(self.errors.p90, 0.95)
        return step_s / (1 + most), step_s / (1 - most)

    @property
    def sentence(self) -> str:
        """What a reader of estimates has to know."""
        e = self.errors
        there = "" if self.here else "; on this card nothing was measured"
        return (
            f"Estimated steps were off by {e.median:.1%} in the median, and nine in ten by less than {e.p90:.1%}, "
            f"where {e.steps} steps were measured ({self.where}){there}."
        )


def user_folder() -> Path:
    """Where a user's own back-tests lie."""
    return host_file.default_path().parent / "backtests"


def find(gpu: GpuProfile | None, method: str, host_part: str = "measured") -> KnownError | None:
    """The error of a method's steps on this card, on another one for want of this, or without any; None if unknown.

    Args:
        host_part: how the host's part of the estimate came about; of back-tests those that had it so come first, where
            it was predicted even those of another card: what a measured host hides is most of the error.
    """
    fitting = [test for test in _all() if (test.gpu is None) == (gpu is None)]
    if not fitting:
        return None

    def closeness(test: Backtest) -> tuple[bool, bool, str]:
        card, part = gpu is None or test.gpu == gpu.id, test.host_part == host_part
        return (part, card, test.created) if host_part == "predicted" else (card, part, test.created)

    best = max(fitting, key=closeness)
    errors = best.errors.get(method)
    if errors is None or errors.steps < FEWEST:
        errors = best.errors[ALL]
    part = "" if best.host_part == "predicted" else ", the host's part as measured"
    where = f"{best.gpu} with {best.cpu}{part}" if best.gpu else best.cpu
    return KnownError(errors=errors, host_part=best.host_part, where=where, here=gpu is None or best.gpu == gpu.id)


def _all() -> list[Backtest]:
    return [_read(path) for folder in (FOLDER, user_folder()) for path in sorted(folder.glob("*.json"))]


@functools.cache
def _read(path: Path) -> Backtest:
    try:
        return Backtest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ArgumentError(f"{path}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
