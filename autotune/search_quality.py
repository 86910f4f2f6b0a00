"""How good the search is on a recorded grid, where the truth is known: how near its answer comes to the best setting,
after how many evaluations, and by how much the answer's figure flatters it; beside random search with the same budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import numpy as np
import optuna

from truffle.autotune.answer import best_feasible
from truffle.autotune.confirm import confirm
from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.grid_space import GridSpace
from truffle.autotune.limits import Limits, judge
from truffle.autotune.record import TrialRecord, describe
from truffle.autotune.repeats import pooled_records
from truffle.autotune.replay import Recording
from truffle.autotune.search import Search
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import DIRECTIONS, sampler, stored_records

NEAR = 0.03


@dataclass(frozen=True)
class Outcome:
    """One search.

    Attributes:
        regret: by how much of the best setting's throughput the answer's falls short, both as they truly are.
        claimed: the figure published, over the true one, less 1; `searched` likewise before it was confirmed.
        near_after: evaluations until the setting then best was within NEAR of the best; None if it never was.
    """

    regret: float
    claimed: float
    searched: float
    near_after: int | None


class Truth:
    """What the samples of a grid say on average, and what the best setting is that keeps the default's KL."""

    def __init__(self, space: GridSpace) -> None:
        grid = space.grid
        self.rates, kl = {}, {}
        for key, config in space.configs.items():
            name = config.model_dump_json()
            self.rates[name] = mean(1e3 * config.execution.batch_size / ms for ms in grid.step_ms[key])
            kl[name] = grid.accuracy[accuracy_key(config)]["kl"]
        default = next(space.config(point) for origin, point in space.first_points() if origin == "default")
        self.limits = Limits(max_kl=kl[default.model_dump_json()])
        self.best = max(rate for name, rate in self.rates.items() if kl[name] <= self.limits.max_kl)

    def regret(self, record: TrialRecord | None) -> float:
        """Of a record's setting; of none, all."""
        return 1.0 if record is None else 1 - self.rates[record.config or ""] / self.best


def searched(space: GridSpace, truth: Truth, budget: int, seed: int) -> Outcome:
    """The tuner's own search, ended after as many evaluations."""
    study, bench = optuna.create_study(directions=DIRECTIONS, sampler=sampler(seed)), Recording(space, seed)
    search = Search(study, space, bench, truth.limits, 0.0, lambda record: None)
    search.plan()
    search.run(Spent(budget))
    return _outcome(stored_records(study), space, truth, bench)


def drawn_at_random(space: GridSpace, truth: Truth, budget: int, seed: int) -> Outcome:
    """The default, and settings drawn without repetition, each measured once."""
    bench = Recording(space, seed)
    default = next(space.config(point) for origin, point in space.first_points() if origin == "default")
    others = [config for config in space.configs.values() if config != default]
    chosen = np.random.default_rng(seed).permutation(len(others))[: budget - 1]
    records = []
    for number, config in enumerate([default, *(others[i] for i in chosen)]):
        figures = {**bench.measure(config, "kl").figures, **bench.measure(config, "throughput").figures}
        origin = "search" if number else "default"
        known = {**describe(config), **figures, "origin": origin}
        records.append(TrialRecord(number=number, status="complete", **known))
    return _outcome(records, space, truth, bench)


class Spent(Stopping):
    """Ends a search after as many evaluations, or when nothing new is asked for."""

    def __init__(self, evaluations: int) -> None:
        super().__init__(evaluations, math.inf)
        self._evaluations = evaluations

    def reason(self, records: Sequence[TrialRecord]) -> str | None:
        """See `Stopping`; a front that stands still ends nothing here."""
        if len(evaluations(records)) >= self._evaluations:
            return "evaluations"
        found = super().reason(records)
        return None if found == "the front no longer moves" else found


def evaluations(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those for which anything was measured."""
    return [r for r in records if r.screen_error is not None or r.tokens_per_s is not None]


def _outcome(records: list[TrialRecord], space: GridSpace, truth: Truth, bench: Recording) -> Outcome:
    found = _best_of(records, truth)
    confirmed = confirm([judge(r, truth.limits) for r in pooled_records(records)], space, bench, math.inf)
    best = best_feasible([record for record in confirmed if record.confirmed])
    return Outcome(truth.regret(best), _flattery(best, truth), _flattery(found, truth), _near_after(records, truth))


def _near_after(records: list[TrialRecord], truth: Truth) -> int | None:
    measured = evaluations(records)
    counts = range(1, len(measured) + 1)
    return next((n for n in counts if truth.regret(_best_of(measured[:n], truth)) <= NEAR), None)


def _best_of(records: list[TrialRecord], truth: Truth) -> TrialRecord | None:
    return best_feasible([judge(record, truth.limits) for record in pooled_records(records)])


def _flattery(record: TrialRecord | None, truth: Truth) -> float:
    return 0.0 if record is None else (record.tokens_per_s or 0.0) / truth.rates[record.config or ""] - 1


def summarised(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Medians over searches, the mean of what figures flatter by, and how many came near at all."""
    near = [outcome.near_after or math.inf for outcome in outcomes]
    return {
        "regret": median(outcome.regret for outcome in outcomes),
        "worst_regret": max(outcome.regret for outcome in outcomes),
        "claimed": mean(outcome.claimed for outcome in outcomes),
        "searched": mean(outcome.searched for outcome in outcomes),
        "near": sum(map(math.isfinite, near)),
        "near_after": median(near) if math.isfinite(median(near)) else None,
    }
