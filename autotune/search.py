"""The search: default first, then the paper's points, then what the sampler asks for, until a budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState

from truffle.autotune.evaluate import AccuracyMeter, ThroughputMeter
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.record import TrialRecord, describe, memory_fields
from truffle.autotune.space import Space
from truffle.model.config import DecodeConfig

PRUNED_IN_A_ROW = 200


class Search:
    """Runs trials of one study.

    Attributes:
        max_kl: the error limit; None until the default's own KL sets it.
        records: one a trial that has ended, by number; those of earlier runs included.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        accuracy: AccuracyMeter,
        throughput: ThroughputMeter,
        fastest_exact: float,
        max_kl: float | None,
        ended: Callable[[TrialRecord], None],
    ) -> None:
        self._study, self._space = study, space
        self._accuracy, self._throughput = accuracy, throughput
        self._fastest_exact, self._ended = fastest_exact, ended
        self.records = {record.number: record for record in stored_records(study)}
        self.max_kl = max_kl if max_kl is not None else study.user_attrs.get("max_kl")
        for record in self.records.values():
            self._remember_accuracy(record)
        if not study.trials:
            for origin, point in space.first_points():
                study.enqueue_trial(point, user_attrs={"origin": origin})

    @property
    def finished(self) -> int:
        """Trials that were measured, those of earlier runs included."""
        return sum(record.status == "complete" for record in self.records.values())

    def run(self, trials: int, timeout_s: float) -> str:
        """Measure until `trials` have finished in total or `timeout_s` have passed in this run; returns why it
        stopped: ``trials``, ``timeout``, ``space exhausted`` or ``interrupted``."""
        end, pruned = time.monotonic() + timeout_s, 0
        try:
            while self.finished < trials:
                if time.monotonic() >= end:
                    return "timeout"
                record = self._one()
                pruned = pruned + 1 if record.status == "pruned" else 0
                if pruned >= PRUNED_IN_A_ROW:
                    return "space exhausted"
        except KeyboardInterrupt:
            return "interrupted"
        return "trials"

    def _one(self) -> TrialRecord:
        started = time.perf_counter()
        trial = self._study.ask()
        config = self._space.suggest(trial)
        origin = trial.user_attrs.get("origin", "search")
        needed = memory(
            self._space.workload.shape, config, self._space.workload.context, self._space.target.gpu is not None
        )
        blank = {"number": trial.number, "origin": origin, **describe(config), **memory_fields(needed)}
        reason = self._known_already(config) or (
            self._space.ruled_out(config, self._fastest_exact) if origin == "search" else None
        )
        if reason:
            return self._end(trial, TrialRecord(status="pruned", reason=reason, **blank), started)
        try:
            record = TrialRecord(status="complete", **blank, **self._measured(config))
        except KeyboardInterrupt:
            self._end(trial, TrialRecord(status="failed", reason="interrupted", **blank), started)
            self._study.enqueue_trial(trial.params, user_attrs={"origin": origin})
            raise
        except Exception as error:  # whatever a point does wrong is its record; the search goes on
            problem = f"{type(error).__name__}: {error}"
            return self._end(trial, TrialRecord(status="failed", reason=problem, **blank), started)
        if self.max_kl is None and origin == "default" and record.kl is not None:
            self.max_kl = record.kl
            self._study.set_user_attr("max_kl", record.kl)
        record = self._judged(record, does_not_fit(needed, self._space.target))
        return self._end(trial, record, started)

    def _measured(self, config: DecodeConfig) -> dict[str, Any]:
        return {**self._accuracy.measure(config), **self._throughput.measure(config)}

    def _known_already(self, config: DecodeConfig) -> str | None:
        settings = describe(config)
        for record in self.records.values():
            same = all(getattr(record, name) == value for name, value in settings.items())
            if same and record.status == "complete":
                return f"the same as trial {record.number}"
        return None

    def _judged(self, record: TrialRecord, does_not_fit: str | None) -> TrialRecord:
        """Whether the point may be recommended: it fits, and its KL keeps the limit."""
        too_far = None
        if self.max_kl is not None and record.kl is not None and record.kl > self.max_kl:
            too_far = f"KL {record.kl:.4f} is over the limit {self.max_kl:.4f}"
        because = does_not_fit or too_far
        return record.updated(feasible=because is None, infeasible_because=because)

    def _end(self, trial: optuna.Trial, record: TrialRecord, started: float) -> TrialRecord:
        record = record.updated(seconds=time.perf_counter() - started)
        trial.set_user_attr("record", record.to_dict())
        if record.status == "complete":
            assert record.kl is not None
            assert record.tokens_per_s is not None
            if self.max_kl is not None:
                trial.set_constraint("kl", record.kl - self.max_kl)
            trial.set_constraint("fits", 0.0 if record.feasible or "KL" in (record.infeasible_because or "") else 1.0)
            self._study.tell(trial, [record.kl, record.tokens_per_s])
        else:
            state = TrialState.PRUNED if record.status == "pruned" else TrialState.FAIL
            self._study.tell(trial, state=state)
        self.records[record.number] = record
        self._remember_accuracy(record)
        self._ended(record)
        return record

    def _remember_accuracy(self, record: TrialRecord) -> None:
        """Accuracy measured by an earlier run serves this one."""
        if record.status != "complete" or record.method != "lsh":
            return
        self._accuracy.remember(self._space.config_of(record), record.to_dict())


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """The records of a study's ended trials."""
    found = (trial.user_attrs.get("record") for trial in study.get_trials(deepcopy=False))
    return [TrialRecord.from_dict(record) for record in found if record]
