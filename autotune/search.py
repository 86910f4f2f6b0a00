"""The search: default first, then the other planned points, then what the sampler asks for, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from truffle.autotune.answer import best_feasible
from truffle.autotune.ladder import Ladder, RuledOut
from truffle.autotune.limits import Limits, judge
from truffle.autotune.measuring import Bench, require_finite
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.neighbours import line_up_neighbour
from truffle.autotune.record import TrialRecord, describe, memory_fields
from truffle.autotune.repeats import pooled_records
from truffle.autotune.sharing import beating, retry_stale
from truffle.autotune.space import Space
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import STATES, StudyError, stored_records
from truffle.autotune.thread_sweep import line_up_threads
from truffle.model.config import DecodeConfig

INTERRUPTED, DEFAULT = "interrupted", "default"
MOST_REPEATS, POLL_S = 3, 0.5


class Search:
    """Runs trials of one study, beside others that do where its storage is shared.

    Args:
        timed: whether throughput is measured too, or accuracy alone.

    Attributes:
        limits: the limit on KL is None until the default's own sets it.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        bench: Bench,
        limits: Limits,
        fastest_exact: float,
        ended: Callable[[TrialRecord], None],
        timed: bool = True,
    ) -> None:
        self._study, self._space, self._bench = study, space, bench
        self._given, self._fastest_exact, self._ended = limits, fastest_exact, ended
        self._first, self._timed = 0, timed

    @property
    def limits(self) -> Limits:
        given = self._given
        return given if given.max_kl is not None else given.with_kl(self._study.user_attrs.get("max_kl"))

    def judged(self) -> list[TrialRecord]:
        """All records by number, repeats pooled, with whether each may be recommended under the limits as known now."""
        limits = self.limits
        return [judge(record, limits) for record in pooled_records(stored_records(self._study))]

    @property
    def finished(self) -> int:
        """Points that were measured, those of earlier runs and other workers included."""
        return sum(record.status == "complete" for record in self.judged())

    def plan(self) -> None:
        """Line up the first points that have not been tried."""
        tried = {r.config for r in self.judged() if r.status != "pruned" and r.reason != INTERRUPTED}
        self._first = len(self._study.get_trials(deepcopy=False))
        for origin, point in self._space.first_points():
            sets_limit = origin == DEFAULT and self.limits.max_kl is None
            if sets_limit or self._space.config(point).model_dump_json() not in tried:
                self._study.enqueue_trial(point, user_attrs={"origin": origin})

    def run(self, stopping: Stopping) -> str:
        """Measure until `stopping` says why not, or Ctrl-C does; returns that.

        Raises:
            StudyError: no limit was given, and the default that would set it fails.
        """
        try:
            while True:
                told = self._told()
                reason = self._study.user_attrs.get("stopped") or stopping.reason(told)
                if reason:
                    return reason
                self._require_limit(told)
                retry_stale(self._study)
                self._one()
        except KeyboardInterrupt:
            return INTERRUPTED

    def sweep_threads(self, timeout_s: float) -> None:
        """Measure the best point with every other number of threads, as far as there is time."""
        records, end = self.judged(), time.monotonic() + timeout_s
        best = best_feasible(records)
        for _ in range(line_up_threads(self._study, best, records) if best else 0):
            if time.monotonic() < end:
                self._one()

    def _told(self) -> list[TrialRecord]:
        """All records by number, repeats among them."""
        limits = self.limits
        return [judge(record, limits) for record in stored_records(self._study)]

    def _one(self) -> None:
        started = time.perf_counter()
        if not self._may_ask():
            time.sleep(POLL_S)
            return
        self._look_beside_the_best()
        trial = self._study.ask()
        origin = trial.user_attrs.get("origin", "search")
        config = self._space.suggest(trial)
        with beating(self._study, trial):
            record, excess = self._tried(trial, origin, config)
            self._tell(trial, record.updated(seconds=time.perf_counter() - started), excess)
        if record.reason == INTERRUPTED:
            raise KeyboardInterrupt

    def _require_limit(self, told: list[TrialRecord]) -> None:
        for record in told if self.limits.max_kl is None else ():
            if record.number >= self._first and record.origin == DEFAULT and record.reason != INTERRUPTED:
                raise StudyError(f"the paper's default sets the error limit, and failed: {record.reason}")

    def _may_ask(self) -> bool:
        """Whether the limit is known, or planned points are left: those are measured whole, whatever it is."""
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return self.limits.max_kl is not None or bool(waiting)

    def _look_beside_the_best(self) -> None:
        """Every other time that the sampler would be asked."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        best = None if waiting or len(trials) % 2 else best_feasible(self.judged())
        if best:
            line_up_neighbour(self._study, best.number)

    def _tried(self, trial: optuna.Trial, origin: str, config: DecodeConfig) -> tuple[TrialRecord, dict[str, float]]:
        """The trial's record, and by how much of each limit it goes beyond them."""
        record, planned = self._blank(trial.number, origin, config), origin != "search"
        shortage = None if planned else self._ruled_out(config)
        if shortage:
            return record.updated(status="pruned", reason=shortage, infeasible_because=None), {"known beforehand": 1.0}
        others = self.judged()
        same = next((r for r in others if r.status == "complete" and r.config == record.config), None)
        try:
            if same:
                return self._again(record, same, config), {}
            record = Ladder(self._bench, self.limits, others, planned, self._timed).climb(config, record)
        except KeyboardInterrupt:
            return record.updated(status="failed", reason=INTERRUPTED), {}
        except RuledOut as found:
            known = found.record.updated(status="pruned", reason=str(found), infeasible_because=None)
            return known, found.excess
        except Exception as error:  # whatever a point does wrong is its record; the search goes on
            return record.updated(status="failed", reason=str(error)), {}
        if origin == DEFAULT and self.limits.max_kl is None:
            self._study.set_user_attr("max_kl", record.kl)
        fits = {"memory": 1.0} if record.infeasible_because else {}
        return record.updated(status="complete"), {**self.limits.excess(record), **fits}

    def _ruled_out(self, config: DecodeConfig) -> str | None:
        return self._space.ruled_out(config, self._fastest_exact, self.limits.max_latency_ms)

    def _again(self, record: TrialRecord, same: TrialRecord, config: DecodeConfig) -> TrialRecord:
        """Throughput of a point that is known, once more, up to MOST_REPEATS in all."""
        if same.repeats >= MOST_REPEATS or not self._timed:
            return record.updated(status="pruned", reason=f"the same as trial {same.number}", infeasible_because=None)
        found = require_finite(self._bench.measure(config, "throughput", same.repeats)).figures
        return record.updated(status="repeat", repeat_of=same.number, kl=same.kl, **found)

    def _blank(self, number: int, origin: str, config: DecodeConfig) -> TrialRecord:
        """A record of what is known beforehand."""
        workload, target = self._space.workload, self._space.target
        needed = memory(workload.shape, config, workload.context, target.gpu is not None)
        problem = does_not_fit(needed, target)
        known = {**describe(config), **memory_fields(needed), "infeasible_because": problem}
        return TrialRecord(number=number, origin=origin, status="failed", **known)

    def _tell(self, trial: optuna.Trial, record: TrialRecord, excess: dict[str, float]) -> None:
        values = [record.kl, record.merit] if STATES[record.status] == TrialState.COMPLETE else None
        try:
            trial.set_user_attr("record", record.to_dict())
            for name, over in excess.items():
                trial.set_constraint(name, over)
            self._study.tell(trial, values, state=STATES[record.status])
        except UpdateFinishedTrialError:  # not heard of for too long, so that another worker has it now
            return
        self._ended(judge(record, self.limits))
