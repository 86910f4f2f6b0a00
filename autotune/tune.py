"""One tuning run from options to output folder."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from truffle.autotune import answer, baselines, outputs
from truffle.autotune.baselines import Baseline
from truffle.autotune.confirm import confirm
from truffle.autotune.exact_runs import measured_ways
from truffle.autotune.facts import facts
from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.local_bench import Plan, make
from truffle.autotune.lock import held
from truffle.autotune.measuring import Bench
from truffle.autotune.memory import require_weights_fit
from truffle.autotune.method_space import parse_methods
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.options import fingerprint, limits_of, require_free, require_options, require_timed
from truffle.autotune.plan import print_plan
from truffle.autotune.progress import StudyProgress
from truffle.autotune.record import TrialRecord
from truffle.autotune.search import INTERRUPTED, Search
from truffle.autotune.space import Space, thread_counts
from truffle.autotune.stopping import Stopping
from truffle.autotune.storage import open_study, stored_records
from truffle.autotune.target import Target, find_target
from truffle.bench.accuracy import Setting
from truffle.bench.workloads import Workload, parse_workload
from truffle.model.tuned import Study

CALIBRATION_SECONDS = 6.0
CONFIRMING = 0.25  # of the search's time


def tune(arguments: argparse.Namespace) -> int:
    """Search, confirm, decide and write.

    Raises:
        ValueError: an option that cannot be met, in one line.
    """
    started = time.monotonic()
    require_options(arguments)
    workload = parse_workload(arguments.workload)
    out = arguments.out or Path("tuned") / arguments.gpu
    if not arguments.dry_run:
        require_free(out, arguments.resume)
    target = find_target(arguments.gpu, arguments.host, arguments.vram_limit, CALIBRATION_SECONDS)
    require_weights_fit(workload.shape, target)
    for note in target.notes:
        print(note, file=sys.stderr)
    threads, methods = thread_counts(target.host.logical_cpus), parse_methods(arguments.methods)
    require_timed(methods, target)
    space = MixedSpace(workload, target, threads, arguments.seed, methods)
    exact_ways = baselines.exact_baselines(workload, target)
    _require_one(exact_ways, workload, target)
    if arguments.dry_run:
        print_plan(space, exact_ways)
        return 0
    setting = Setting(arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps)
    plan = Plan(workload, target, arguments.model, setting, tuple(limits_of(arguments).min_scores), arguments.seed)
    with held(out), IsolatedBench(make, plan) as bench:
        if target.is_here:
            exact_ways = measured_ways(exact_ways, bench, threads[-1], lambda text: print(text, file=sys.stderr))
            _require_one(exact_ways, workload, target)
        study = open_study(out, fingerprint(arguments, workload, target), arguments.seed)
        run = Run(arguments, space, setting, exact_ways, started)
        return run.finish(out, *run.search(study, bench))


@dataclass
class Run:
    """One run's search and what it leaves behind."""

    arguments: argparse.Namespace
    space: Space
    setting: Setting
    exact_ways: list[Baseline]
    started: float

    @property
    def fastest(self) -> Baseline:
        """The fastest exact way that fits."""
        found = baselines.fastest(self.exact_ways)
        assert found is not None
        return found

    def search(self, study: Any, bench: Bench) -> tuple[Search, list[TrialRecord], str]:
        """Search and confirm; the search, its records as they are to be published, and why it stopped."""
        arguments = self.arguments
        finished = sum(record.status == "complete" for record in stored_records(study))
        with StudyProgress(arguments.trials, finished) as progress:
            rate = self.fastest.tokens_per_s or 0.0
            search = Search(study, self.space, bench, limits_of(arguments), rate, progress.ended)
            search.plan()
            first = len(study.get_trials(deepcopy=False))
            stop_reason = search.run(Stopping(arguments.trials, arguments.timeout, first))
            records = search.judged()
            if stop_reason != INTERRUPTED:
                progress.say("measuring the best points and the default again, taking turns")
                try:
                    records = confirm(records, self.space, bench, CONFIRMING * arguments.timeout)
                except KeyboardInterrupt:
                    stop_reason = INTERRUPTED
        return search, records, stop_reason

    def finish(self, out: Path, search: Search, records: list[TrialRecord], stop_reason: str) -> int:
        """Decide and write; the exit status."""
        complete, max_kl = stop_reason != INTERRUPTED, search.limits.max_kl
        confirmed = [record for record in records if record.confirmed]
        decision = answer.decide(confirmed if complete else records, self.fastest, max_kl)
        summary = Study(
            trials=search.finished,
            failed=sum(record.status == "failed" for record in records),
            seconds=time.monotonic() - self.started,
            stop_reason=stop_reason,
            complete=complete,
        )
        target, workload = self.space.target, self.space.workload
        entries = facts(self.arguments, self.setting, max_kl, summary, workload, target)
        record = outputs.study_record(decision, self.exact_ways, records, target, workload, **entries)
        record["answer"]["fastest_exact"] = self.fastest.name
        if not complete:
            record["answer"]["detail"].append("The run was interrupted: no figure has been measured a second time.")
        proxy = f"{self.arguments.model} at {self.setting.context} tokens"
        proxy += ", a proxy for the workload" if entries["accuracy_model"]["proxy"] else ""
        outputs.write(out, record, outputs.tuned_config(decision, self.fastest, records, self.space, proxy, summary))
        _report(out, record, self.arguments.json)
        return 0 if complete else 130


def _require_one(ways: list[Baseline], workload: Workload, target: Target) -> None:
    """Raise ValueError where no exact way fits."""
    if baselines.fastest(ways) is None:
        machine, reasons = f"{target.card} and {target.host.name}", "; ".join(f"{w.name} {w.reason}" for w in ways)
        raise ValueError(f"workload: {workload.id} does not fit {machine}, exact attention included: {reasons}")


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
