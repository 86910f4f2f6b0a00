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
from truffle.autotune.evaluate import AccuracyMeter, ThroughputMeter
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.options import fingerprint, require_free, require_options, resolved_command
from truffle.autotune.progress import StudyProgress
from truffle.autotune.record import TrialRecord
from truffle.autotune.search import Search, stored_records
from truffle.autotune.space import Space, thread_counts
from truffle.autotune.storage import open_study
from truffle.autotune.target import Target, find_target
from truffle.bench.accuracy import Setting
from truffle.bench.text import SOURCE
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
    target = find_target(arguments.gpu, arguments.host, CALIBRATION_SECONDS)
    for note in target.notes:
        print(note, file=sys.stderr)
    space = Space(workload, target, thread_counts(target.host.logical_cpus), arguments.seed)
    exact_ways = baselines.exact_baselines(workload, target)
    if baselines.fastest(exact_ways) is None:
        raise ValueError(_nothing_fits(workload, target, exact_ways))
    if arguments.dry_run:
        _print_plan(space, exact_ways)
        return 0
    here = hardware.detect().cpu.usable_cpus
    setting = Setting(arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps)
    accuracy = AccuracyMeter(arguments.model, setting, here, lambda text: print(text, file=sys.stderr))
    accuracy.prepare()
    throughput = ThroughputMeter(workload, target, here, arguments.seed)
    if throughput.runs_whole_layers:
        exact_ways = [_measured(way, throughput) for way in exact_ways]
    study = open_study(out, fingerprint(arguments, workload, target), arguments.seed)
    run = Run(arguments, space, setting, exact_ways, started)
    return run.finish(out, *run.search(study, accuracy, throughput))


def _measured(way: Baseline, throughput: ThroughputMeter) -> Baseline:
    """The way as run here, where it keeps everything in one place; offloading stays estimated, in its favour."""
    if not way.fits or way.name not in (baselines.ON_GPU, baselines.ON_CPU):
        return way
    print(f"measuring exact attention, {way.name}", file=sys.stderr)
    return throughput.measured_exact(way)


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
        facts = _facts(self.arguments, self.setting, search.max_kl, summary, workload, target)
        record = outputs.study_record(decision, self.exact_ways, records, target, workload, **facts)
        record["answer"]["fastest_exact"] = self.fastest.name
        if not complete:
            record["answer"]["detail"].append("The run was interrupted: no figure has been measured a second time.")
        proxy = f"{self.arguments.model} at {self.setting.context} tokens"
        proxy += ", a proxy for the workload" if facts["accuracy_model"]["proxy"] else ""
        outputs.write(out, record, outputs.tuned_config(decision, self.fastest, records, self.space, proxy, summary))
        _report(out, record, self.arguments.json)
        return 0 if complete else 130


def _nothing_fits(workload: Workload, target: Target, ways: list[Baseline]) -> str:
    gpu = target.gpu.id if target.gpu else "no GPU"
    reasons = "; ".join(f"{way.name} {way.reason}" for way in ways)
    return f"workload: {workload.id} does not fit {gpu} and {target.host.name}, exact attention included: {reasons}"


def _facts(
    arguments: argparse.Namespace,
    setting: Setting,
    max_kl: float | None,
    summary: Study,
    workload: Workload,
    target: Target,
) -> dict[str, Any]:
    return {
        "command": arguments.command_line,
        "resolved_command": resolved_command(arguments, target),
        "accuracy_model": {
            "id": arguments.model,
            "context": setting.context,
            "samples": setting.samples,
            "steps": setting.steps,
            "proxy": (arguments.model, setting.context) != (workload.model, workload.context),
            "text": SOURCE,
        },
        "limit": {
            "max_kl": max_kl,
            "source": "--max-kl" if arguments.max_kl is not None else "the paper default's own KL in this run",
        },
        "budget": {"trials": arguments.trials, "timeout_s": arguments.timeout},
        "seconds": summary.seconds,
        "stop_reason": summary.stop_reason,
        "complete": summary.complete,
    }


def _print_plan(space: Space, ways: list[Baseline]) -> None:
    console, target = Console(highlight=False), space.target
    console.print(
        f"workload {space.workload.id} on {target.gpu.name if target.gpu else 'no GPU'} with {target.host.name}"
    )
    for way in ways:
        rate = f"{way.tokens_per_s:.3g} tokens/s at batch {way.batch_size}" if way.fits else f"no: {way.reason}"
        console.print(f"  exact, {way.name}: {rate}")
    fastest = baselines.fastest(ways)
    console.print(f"fastest exact: {fastest.name if fastest else 'none'}; first points:")
    for origin, point in space.first_points():
        config = space.config(point)
        needed = memory(space.workload.shape, config, space.workload.context, target.gpu is not None)
        problem = does_not_fit(needed, target) or f"fits ({needed.host_bytes / 1e9:.1f} GB on the host)"
        console.print(f"  {origin} lsh ({point['K']}, {point['L']}): {problem}")
    console.print(
        f"then the sampler: K, L, min_hits, probing, threads in {space.threads}, batch size, store format, "
        "fused or not; nothing was measured or written"
    )


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
