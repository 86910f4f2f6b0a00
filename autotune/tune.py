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
from truffle.autotune.evaluate import AccuracyMeter
from truffle.autotune.facts import facts
from truffle.autotune.memory import require_weights_fit
from truffle.autotune.method_space import parse_methods
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.options import fingerprint, require_free, require_options, require_timed
from truffle.autotune.plan import print_plan
from truffle.autotune.progress import StudyProgress
from truffle.autotune.record import TrialRecord
from truffle.autotune.search import Search, stored_records
from truffle.autotune.space import Space, thread_counts
from truffle.autotune.storage import open_study
from truffle.autotune.target import Target, find_target
from truffle.autotune.throughput import ThroughputMeter
from truffle.autotune.whole_layers import WholeLayers
from truffle.bench.accuracy import Setting
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels import hardware
from truffle.model.tuned import Study

CALIBRATION_SECONDS = 6.0


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
    here = hardware.detect().cpu.usable_cpus
    setting = Setting(arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps)
    accuracy = AccuracyMeter(arguments.model, setting, here, lambda text: print(text, file=sys.stderr))
    accuracy.prepare()
    throughput = ThroughputMeter(workload, target, here, arguments.seed)
    if throughput.whole_layers:
        exact_ways = [_measured(way, throughput.whole_layers) for way in exact_ways]
        _require_one(exact_ways, workload, target)
    study = open_study(out, fingerprint(arguments, workload, target), arguments.seed)
    run = Run(arguments, space, setting, exact_ways, started)
    return run.finish(out, *run.search(study, accuracy, throughput))


def _measured(way: Baseline, whole_layers: WholeLayers) -> Baseline:
    """The way as run here, where it keeps everything in one place; offloading stays estimated, in its favour."""
    if not way.fits or way.name not in (baselines.ON_GPU, baselines.ON_CPU):
        return way
    print(f"measuring exact attention, {way.name}", file=sys.stderr)
    return whole_layers.exact(way)


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

    def search(
        self, study: Any, accuracy: AccuracyMeter, throughput: ThroughputMeter
    ) -> tuple[Search, list[TrialRecord], str]:
        """Search and confirm; the search, its records as they are to be published, and why it stopped."""
        finished = sum(record.status == "complete" for record in stored_records(study))
        with StudyProgress(self.arguments.trials, finished) as progress:
            rate = self.fastest.tokens_per_s or 0.0
            search = Search(study, self.space, accuracy, throughput, rate, self.arguments.max_kl, progress.ended)
            stop_reason = search.run(self.arguments.trials, self.arguments.timeout)
            records = search.judged()
            if stop_reason != "interrupted":
                progress.say("measuring the best point and the default again, taking turns")
                try:
                    records = confirm(records, self.space, throughput)
                except KeyboardInterrupt:
                    stop_reason = "interrupted"
        return search, records, stop_reason

    def finish(self, out: Path, search: Search, records: list[TrialRecord], stop_reason: str) -> int:
        """Decide and write; the exit status."""
        complete = stop_reason != "interrupted"
        confirmed = [record for record in records if record.confirmed]
        decision = answer.decide(confirmed if complete else records, self.fastest, search.max_kl)
        summary = Study(
            trials=search.finished,
            failed=sum(record.status == "failed" for record in records),
            seconds=time.monotonic() - self.started,
            stop_reason=stop_reason,
            complete=complete,
        )
        target, workload = self.space.target, self.space.workload
        entries = facts(self.arguments, self.setting, search.max_kl, summary, workload, target)
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
