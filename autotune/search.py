"""The search: default first, then the other planned points, then what the sampler asks for, until a budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import TrialState

from truffle.autotune.evaluate import AccuracyMeter
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.record import TrialRecord, describe, judge, memory_fields
from truffle.autotune.space import Space
from truffle.autotune.storage import StudyError
from truffle.autotune.throughput import ThroughputMeter
from truffle.model.config import DecodeConfig

PRUNED_IN_A_ROW, FAILED_IN_A_ROW = 200, 5
INTERRUPTED = "interrupted"


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

    def judged(self) -> list[TrialRecord]:
        """All records by number, with whether each may be recommended under the limit as it is known now."""
        return [judge(self.records[number], self.max_kl) for number in sorted(self.records)]

    @property
    def finished(self) -> int:
        """Trials that were measured, those of earlier runs included."""
        return sum(record.status == "complete" for record in self.records.values())

    def run(self, trials: int, timeout_s: float) -> str:
        """Measure until `trials` have finished in total or `timeout_s` have passed in this run; returns why it
        stopped: ``trials``, ``timeout``, ``space exhausted``, ``failures`` or ``interrupted``.

        Raises:
            StudyError: no limit was given, and the default that would set it fails.
        """
        end, in_a_row = time.monotonic() + timeout_s, {"pruned": 0, "failed": 0, "complete": 0}
        try:
            while self.finished < trials:
                if time.monotonic() >= end:
                    return "timeout"
                record = self._one()
                in_a_row = {status: in_a_row[status] + 1 if status == record.status else 0 for status in in_a_row}
                if in_a_row["pruned"] >= PRUNED_IN_A_ROW:
                    return "space exhausted"
                if in_a_row["failed"] >= FAILED_IN_A_ROW:
                    return "failures"
        except KeyboardInterrupt:
            return "interrupted"
        return "trials"

    def _one(self) -> TrialRecord:
        started = time.perf_counter()
        planned = next((first for first in self._space.first_points() if not self._tried(first[1])), None)
        if planned:
            self._study.enqueue_trial(planned[1])
        trial = self._study.ask()
        config, origin = self._space.suggest(trial), planned[0] if planned else "search"
        record = self._blank(trial.number, origin, config)
        reason = None if planned else self._known_already(config) or self._space.ruled_out(config, self._fastest_exact)
        if reason:
            return self._end(trial, record.updated(status="pruned", reason=reason, infeasible_because=None), started)
        try:
            record = record.updated(status="complete", **self._measured(config))
        except KeyboardInterrupt:
            self._end(trial, record.updated(status="failed", reason=INTERRUPTED), started)
            raise
        except Exception as error:  # whatever a point does wrong is its record; the search goes on
            if self.max_kl is None:
                raise StudyError(f"the paper's default sets the error limit, and failed: {error}") from error
            problem = f"{type(error).__name__}: {error}"
            return self._end(trial, record.updated(status="failed", reason=problem), started)
        if self.max_kl is None:
            self.max_kl = record.kl
            self._study.set_user_attr("max_kl", record.kl)
        return self._end(trial, record, started)

    def _blank(self, number: int, origin: str, config: DecodeConfig) -> TrialRecord:
        """A record of what is known beforehand."""
        workload, target = self._space.workload, self._space.target
        needed = memory(workload.shape, config, workload.context, target.gpu is not None)
        problem = does_not_fit(needed, target)
        known = {**describe(config), **memory_fields(needed), "infeasible_because": problem}
        return TrialRecord(number=number, origin=origin, status="failed", **known)

    def _tried(self, point: dict[str, Any]) -> bool:
        """Whether a planned point has ended, other than by an interruption."""
        settings = describe(self._space.config(point))
        ended = (r for r in self.records.values() if r.status != "pruned" and r.reason != INTERRUPTED)
        return any(all(getattr(record, name) == value for name, value in settings.items()) for record in ended)

    def _measured(self, config: DecodeConfig) -> dict[str, Any]:
        return {**self._accuracy.measure(config), **self._throughput.measure(config)}

    def _known_already(self, config: DecodeConfig) -> str | None:
        settings = describe(config)
        for record in self.records.values():
            same = all(getattr(record, name) == value for name, value in settings.items())
            if same and record.status == "complete":
                return f"the same as trial {record.number}"
        return None

    def _end(self, trial: optuna.Trial, record: TrialRecord, started: float) -> TrialRecord:
        record = record.updated(seconds=time.perf_counter() - started)
        trial.set_user_attr("record", record.to_dict())
        if record.status == "complete":
            assert record.kl is not None
            assert record.tokens_per_s is not None
            assert self.max_kl is not None
            trial.set_constraint("kl", record.kl - self.max_kl)
            trial.set_constraint("fits", 1.0 if record.infeasible_because else 0.0)
            self._study.tell(trial, [record.kl, record.tokens_per_s])
        else:
            state = TrialState.PRUNED if record.status == "pruned" else TrialState.FAIL
            self._study.tell(trial, state=state)
        self.records[record.number] = record
        self._remember_accuracy(record)
        self._ended(judge(record, self.max_kl))
        return record

    def _remember_accuracy(self, record: TrialRecord) -> None:
        """Accuracy measured by an earlier run serves this one."""
        if record.status == "complete":
            self._accuracy.remember(self._space.config_of(record), record.to_dict())


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """The records of a study's ended trials."""
    found = (trial.user_attrs.get("record") for trial in study.get_trials(deepcopy=False))
    return [TrialRecord.from_dict(record) for record in found if record]
