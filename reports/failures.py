"""Trials without figures, put together by what stopped them."""

import re
from dataclasses import dataclass

from .record import Study, Trial

FIGURE = re.compile(r"\d[\d.,]*(e[+-]?\d+)?")


@dataclass(frozen=True)
class Failure:
    """Trials that ended alike: `reason` is the first one's own."""

    status: str
    reason: str
    trials: tuple[Trial, ...]

    @property
    def names(self) -> str:
        """At most three, and how many more."""
        names, more = [t.name for t in self.trials[:3]], len(self.trials) - 3
        return "; ".join(names) + (f" and {more} more" if more > 0 else "")


def failures(study: Study) -> list[Failure]:
    """Failed trials first, then those ruled out beforehand, by how many; figures apart, equal reasons are one."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in study.trials:
        if trial.status not in ("complete", "repeat"):
            groups.setdefault((trial.status, FIGURE.sub("#", trial.reason or "")), []).append(trial)
    found = [Failure(status, own[0].reason or "no reason recorded", tuple(own)) for (status, _), own in groups.items()]
    return sorted(found, key=lambda f: (f.status != "failed", -len(f.trials)))
