"""One tuning run from options to output folder."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from truffle.autotune import answer, baselines, outputs
from truffle.autotune.confirm import confirm
from truffle.autotune.evaluate import AccuracyMeter, ThroughputMeter
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.progress import StudyProgress
from truffle.autotune.search import Search
from truffle.autotune.space import Space, thread_counts
from truffle.autotune.storage import JOURNAL, StudyError, open_study
from truffle.autotune.target import Target, find_target
from truffle.bench.accuracy import Setting
from truffle.bench.text import SOURCE
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels import hardware, isa
from truffle.model.tuned import Study

CALIBRATION_SECONDS = 6.0


def tune(arguments: argparse.Namespace) -> int:
    """Search, confirm, decide and write.

    Raises:
        ValueError: an option that cannot be met, in one line.
    """
    started = time.monotonic()
    _require_options(arguments)
    workload = parse_workload(arguments.workload)
    out = arguments.out or Path("tuned") / arguments.gpu
    if not arguments.dry_run:
        _require_free(out, arguments.resume)
    target = find_target(arguments.gpu, arguments.host, CALIBRATION_SECONDS)
    for note in target.notes:
        print(note, file=sys.stderr)
    space = Space(workload, target, thread_counts(target.host.logical_cpus), isa.resolve("auto"), arguments.seed)
    exact_ways = baselines.exact_baselines(workload, target)
    fastest = baselines.fastest(exact_ways)
    if fastest is None:
        raise ValueError(_nothing_fits(workload, target, exact_ways))
    if arguments.dry_run:
        _print_plan(space, exact_ways, fastest)
        return 0
    study = open_study(out, _fingerprint(arguments, workload, target), arguments.resume, arguments.seed)
    here = hardware.detect().cpu.usable_cpus
    throughput = ThroughputMeter(workload, target, here, arguments.seed)
    setting = Setting(arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps)
    with StudyProgress(arguments.trials, _finished(study)) as progress:
        accuracy = AccuracyMeter(arguments.model, setting, here, progress.say)
        search = Search(
            study, space, accuracy, throughput, fastest.tokens_per_s or 0.0, arguments.max_kl, progress.ended
        )
        stop_reason = search.run(arguments.trials, arguments.timeout)
        if stop_reason != "interrupted":
            progress.say("measuring the best point and the default again, taking turns")
            search.records = confirm(search.records, space, throughput)
    records = [search.records[number] for number in sorted(search.records)]
    decision = answer.decide(records, fastest, search.max_kl)
    summary = Study(
        trials=search.finished,
        failed=sum(record.status == "failed" for record in records),
        seconds=time.monotonic() - started,
        stop_reason=stop_reason,
        complete=stop_reason != "interrupted",
    )
    proxy = f"{arguments.model} at {setting.context} tokens" + (
        ", a proxy for the workload's model" if arguments.model != workload.model else ""
    )
    facts = _facts(arguments, setting, search.max_kl, summary, workload)
    record = outputs.study_record(decision, exact_ways, records, target, workload, **facts)
    record["answer"]["fastest_exact"] = fastest.name
    outputs.write(out, record, outputs.tuned_config(decision, fastest, records, space, proxy, summary))
    _report(out, record, arguments.json)
    return 130 if stop_reason == "interrupted" else 0


def _require_options(arguments: argparse.Namespace) -> None:
    for name in ("trials", "timeout", "accuracy_context", "accuracy_samples", "accuracy_steps"):
        if getattr(arguments, name) <= 0:
            raise ValueError(f"{name}: expected more than 0, got {getattr(arguments, name)}")
    if arguments.max_kl is not None and not arguments.max_kl >= 0:
        raise ValueError(f"max_kl: expected at least 0, got {arguments.max_kl}")
    if arguments.seed < 0:
        raise ValueError(f"seed: expected at least 0, got {arguments.seed}")


def _require_free(out: Path, resume: bool) -> None:
    if resume and not (out / JOURNAL).is_file():
        raise StudyError(f"resume: expected a study in {out}, found none")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"out: expected an empty or new folder, got {out}; --resume goes on with a study there")


def _nothing_fits(workload: Workload, target: Target, ways: list[baselines.Baseline]) -> str:
    gpu = target.gpu.id if target.gpu else "no GPU"
    reasons = "; ".join(f"{way.name} {way.reason}" for way in ways)
    return f"workload: {workload.id} does not fit {gpu} and {target.host.name}, exact attention included: {reasons}"


def _fingerprint(arguments: argparse.Namespace, workload: Workload, target: Target) -> dict[str, Any]:
    """What a study's trials depend on; a study goes on only with the same."""
    return {
        "gpu": target.gpu.id if target.gpu else "none",
        "host": [target.host.name, target.host.logical_cpus, target.host.source],
        "workload": workload.id,
        "model": arguments.model,
        "accuracy": [arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps],
        "max_kl": arguments.max_kl,
        "seed": arguments.seed,
    }


def _finished(study: Any) -> int:
    from truffle.autotune.search import stored_records

    return sum(record.status == "complete" for record in stored_records(study))


def _facts(
    arguments: argparse.Namespace, setting: Setting, max_kl: float | None, summary: Study, workload: Workload
) -> dict[str, Any]:
    return {
        "command": arguments.command_line,
        "accuracy_model": {
            "id": arguments.model,
            "context": setting.context,
            "samples": setting.samples,
            "steps": setting.steps,
            "proxy": arguments.model != workload.model,
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


def _print_plan(space: Space, ways: list[baselines.Baseline], fastest: baselines.Baseline) -> None:
    console, target = Console(highlight=False), space.target
    console.print(
        f"workload {space.workload.id} on {target.gpu.name if target.gpu else 'no GPU'} with {target.host.name}"
    )
    for way in ways:
        rate = f"{way.tokens_per_s:.3g} tokens/s at batch {way.batch_size}" if way.fits else f"no: {way.reason}"
        console.print(f"  exact, {way.name}: {rate}")
    console.print(f"fastest exact: {fastest.name}; first points:")
    for origin, point in space.first_points():
        config = space.config(point)
        needed = memory(space.workload.shape, config, space.workload.context, target.gpu is not None)
        problem = does_not_fit(needed, target) or f"fits ({needed.host_bytes / 1e9:.1f} GB on the host)"
        console.print(f"  {origin} lsh ({point['K']}, {point['L']}): {problem}")
    console.print(
        f"then the sampler: K, L, min_hits, threads in {space.threads}, batch size; nothing was measured or written"
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
