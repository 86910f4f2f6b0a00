"""One tuning run from options to output folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from rich.console import Console

from truffle.autotune import answer, baselines, outputs
from truffle.autotune.accuracy_study import finish_accuracy
from truffle.autotune.baselines import Baseline
from truffle.autotune.confirm import confirm
from truffle.autotune.exact_runs import measured_ways
from truffle.autotune.facts import facts
from truffle.autotune.lock import held
from truffle.autotune.measuring import Bench
from truffle.autotune.options import require_free, require_options, without_password
from truffle.autotune.plan import dry_run
from truffle.autotune.progress import StudyProgress
from truffle.autotune.record import TrialRecord
from truffle.autotune.replayed import bench_of, exact_ways_of, replayed_setup
from truffle.autotune.samples import SAMPLES, Keeping
from truffle.autotune.search import INTERRUPTED, Search
from truffle.autotune.setup import Setup, set_up
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import open_study, stored_records
from truffle.autotune.worker import announce, open_shared
from truffle.model.tuned import Study as Summary

CONFIRMING, SWEEPING = 0.25, 0.1  # of the search's time


def tune(arguments: argparse.Namespace) -> int:
    """Search, confirm, decide and write.

    Raises:
        ValueError: an option that cannot be met, in one line.
    """
    started = time.monotonic()
    require_options(arguments)
    out = arguments.out or Path("tuned") / (arguments.replay.stem if arguments.replay else arguments.gpu)
    if not arguments.dry_run or arguments.resume:
        require_free(out, arguments.resume, arguments.storage is not None)
    setup = replayed_setup(arguments) if arguments.replay else set_up(arguments)
    for note in setup.target.notes:
        print(note, file=sys.stderr)
    exact_ways = [] if arguments.accuracy_only else exact_ways_of(setup)
    if not arguments.accuracy_only:
        _require_one(exact_ways, setup)
    if arguments.dry_run:
        return dry_run(arguments, setup, exact_ways, out)
    if arguments.accuracy_only:
        return _accuracy_only(arguments, setup, out)
    with _at_work(arguments, setup, out) as (study, bench):
        if setup.target.is_here:
            exact_ways = measured_ways(exact_ways, bench, setup.space.threads[-1], _say)
            _require_one(exact_ways, setup)
        run = Run(arguments, setup, exact_ways, started)
        return run.finish(out, *run.search(study, bench))


def _accuracy_only(arguments: argparse.Namespace, setup: Setup, out: Path) -> int:
    with _at_work(arguments, setup, out) as (study, bench):
        search, stop_reason = searched(study, arguments, setup, bench, 0.0)
        finish_accuracy(out, search.judged(), stop_reason, without_password(arguments.command_line))
    return 130 if stop_reason == INTERRUPTED else 0


@contextlib.contextmanager
def _at_work(arguments: argparse.Namespace, setup: Setup, out: Path) -> Iterator[tuple[Study, Bench]]:
    """The study and what measures, while the folder is held.

    The study is there before anything is measured, so that whatever kills the run, --resume goes on; one to go on with
    is opened before the bench is made, which takes long.
    """
    with held(out):
        known = _opened(arguments, setup, out) if arguments.resume else None
        with bench_of(setup) as measuring:
            yield known or _opened(arguments, setup, out), Keeping(measuring, out / SAMPLES)


def _opened(arguments: argparse.Namespace, setup: Setup, out: Path) -> Study:
    if arguments.storage is None:
        return open_study(out, setup.fingerprint, arguments.seed)
    marks, seed = setup.fingerprint, arguments.seed
    return open_shared(arguments.storage, out, arguments.study, arguments.resume, marks, seed)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@dataclass
class Run:
    """One run's search and what it leaves behind."""

    arguments: argparse.Namespace
    setup: Setup
    exact_ways: list[Baseline]
    started: float

    @property
    def fastest(self) -> Baseline:
        """The fastest exact way that fits."""
        found = baselines.fastest(self.exact_ways)
        assert found is not None
        return found

    def search(self, study: Study, bench: Bench) -> tuple[Search, list[TrialRecord], str]:
        """Search and confirm; the search, its records as they are to be published, and why it stopped."""
        search, stop_reason = searched(study, self.arguments, self.setup, bench, self.fastest.tokens_per_s or 0.0)
        if stop_reason != INTERRUPTED:
            _say("measuring the best point with other threads, then the best and the default again, taking turns")
            try:
                search.sweep_threads(SWEEPING * self.arguments.timeout)
                records = confirm(search.judged(), self.setup.space, bench, CONFIRMING * self.arguments.timeout)
                return search, records, stop_reason
            except KeyboardInterrupt:
                stop_reason = INTERRUPTED
        return search, search.judged(), stop_reason

    def finish(self, out: Path, search: Search, records: list[TrialRecord], stop_reason: str) -> int:
        """Decide and write; the exit status."""
        complete, max_kl = stop_reason != INTERRUPTED, search.limits.max_kl
        confirmed = [record for record in records if record.confirmed]
        decision = answer.decide(confirmed if complete else records, self.fastest, max_kl)
        summary = Summary(
            trials=search.finished,
            failed=sum(record.status == "failed" for record in records),
            seconds=time.monotonic() - self.started,
            stop_reason=stop_reason,
            complete=complete,
        )
        target, workload = self.setup.target, self.setup.workload
        entries = facts(self.arguments, self.setup.setting, max_kl, summary, workload, target)
        record = outputs.study_record(decision, self.exact_ways, records, target, workload, **entries)
        record["fingerprint"] = self.setup.fingerprint
        record["answer"]["fastest_exact"] = self.fastest.name
        if not complete:
            record["answer"]["detail"].append("The run was interrupted: no figure has been measured a second time.")
        proxy = f"{self.arguments.model} at {self.setup.setting.context} tokens"
        proxy += ", a proxy for the workload" if entries["accuracy_model"]["proxy"] else ""
        outputs.write(
            out, record, outputs.tuned_config(decision, self.fastest, records, self.setup.space, proxy, summary)
        )
        _report(out, record, self.arguments.json)
        return 0 if complete else 130


def searched(
    study: Study, arguments: argparse.Namespace, setup: Setup, bench: Bench, fastest_exact: float
) -> tuple[Search, str]:
    """A search that has ended, and why; workers have been told of its beginning and its end."""
    gpu, timed = setup.target.gpu, not arguments.accuracy_only
    if arguments.storage:
        announce(study, arguments, gpu.id if gpu and timed else "none", fastest_exact)
    finished = sum(record.status == "complete" for record in stored_records(study))
    with StudyProgress(arguments.trials, finished) as progress:
        search = Search(study, setup.space, bench, setup.limits, fastest_exact, progress.ended, timed)
        search.plan()
        first = len(study.get_trials(deepcopy=False))
        try:
            return search, search.run(Stopping(arguments.trials, arguments.timeout, first))
        finally:
            if arguments.storage:
                study.set_user_attr("stopped", "its tuner has stopped")


def _require_one(ways: list[Baseline], setup: Setup) -> None:
    """Raise ValueError where no exact way fits."""
    if baselines.fastest(ways) is None:
        target, reasons = setup.target, "; ".join(f"{way.name} {way.reason}" for way in ways)
        machine = f"{target.card} and {target.host.name}"
        raise ValueError(f"workload: {setup.workload.id} does not fit {machine}, exact attention included: {reasons}")


def _report(out: Path, record: dict[str, Any], as_json: bool) -> None:
    from truffle.autotune.cli import render_reports

    table = render_reports(out, record)
    if as_json:
        print(json.dumps(record, indent=1))
        return
    console = Console()
    console.width = console.width if console.is_terminal else max(console.width, 140)
    console.print(table)
    console.print(f"\n{record['answer']['headline']}", highlight=False)
    for sentence in record["answer"]["detail"]:
        console.print(sentence, highlight=False)
    console.print(f"\n{out}/report.html, report.md, tuned.json, trials.csv", highlight=False)
