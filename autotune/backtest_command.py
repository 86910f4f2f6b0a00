"""What `python -m autotune backtest` does: measure steps, or read them, and say how far predictions are off."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from truffle.autotune import backtest, backtest_grid, known_error
from truffle.autotune.backtest import Comparison, MeasuredStep
from truffle.autotune.known_error import Backtest, Errors
from truffle.bench import host_file
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.records import write_atomically, write_records
from truffle.kernels import hardware, profiles
from truffle.kernels.checks import expect


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, and write what was asked for."""
    a = arguments
    expect(bool(a.records or a.measure), "records", "files of steps, or --measure FILE", "neither")
    if a.measure:
        device = "cuda" if _has_cuda() else "cpu"
        write_records(a.measure, backtest_grid.measure(device, hardware.detect().cpu.usable_cpus), a.command_line)
    steps = backtest.read_steps([*a.records, *([a.measure] if a.measure else [])])
    calibration = HostCalibration.load(a.host) if a.host else _own(steps)
    quantile = backtest.UNDISTURBED if a.undisturbed else backtest.MEDIAN
    found = backtest.compare(steps, calibration, quantile)
    expect(bool(found), "records", "steps that can be predicted", "none; where a host's part is missing, give --host")
    outcome = _outcome(steps, found, calibration, quantile).model_copy(update={"command": a.command_line})
    _show(found, outcome)
    if a.keep:
        name = f"{outcome.gpu or 'cpu'}-{outcome.created.replace(':', '')}.json"
        write_atomically(known_error.user_folder() / name, outcome.model_dump_json(indent=1) + "\n")
    if a.json:
        told = outcome.model_copy(update={"steps": tuple(asdict(one) for one in found)})
        write_atomically(a.json, told.model_dump_json(indent=1) + "\n")
    return 0


def _own(steps: list[MeasuredStep]) -> HostCalibration | None:
    """This machine's, where all steps are from here."""
    calibration = host_file.of_this_machine()
    here = {host_file.described(calibration.cpu)} if calibration and calibration.kernels else set()
    return calibration if {step.cpu for step in steps} == here else None


def _outcome(
    steps: list[MeasuredStep], found: list[Comparison], calibration: HostCalibration | None, quantile: str
) -> Backtest:
    names = {step.gpu for step in steps}
    expect(len(names) == 1, "records", "steps on one card, or all on the CPU", sorted(map(str, names)))
    gpu = profiles.matching(name) if (name := names.pop()) else None
    return Backtest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        gpu=gpu.id if gpu else None,
        cpu="; ".join(sorted({step.cpu for step in steps})),
        host_part="predicted" if calibration else "measured",
        quantile=quantile,
        sources=tuple(sorted({one.source for one in found})),
        errors={name: Errors.model_validate(errors) for name, errors in backtest.summary(found).items()},
    )


def _show(found: list[Comparison], outcome: Backtest) -> None:
    table = Table(
        "steps of", "workload", "batch", "threads", "predicted", "measured", "error", box=None, pad_edge=False
    )
    for one in found:
        times = (f"{ms:,.2f} ms" for ms in (one.predicted_ms, one.measured_ms))
        table.add_row(one.method, one.workload, str(one.batch), str(one.threads), *times, f"{one.error:+.1%}")
    Console().print(table)
    part = "" if outcome.host_part == "predicted" else "; the host's part is that of the steps' own traces"
    print(f"\n{outcome.gpu or 'no GPU'}, {outcome.cpu}{part}")
    for name, e in outcome.errors.items():
        print(f"{name}: {e.steps} steps, off by {e.median:.1%} in the median, 80% by less than {e.p80:.1%}, "
              f"90% by less than {e.p90:.1%}, at most {e.most:.1%}; bias {e.bias:+.1%}")  # fmt: skip


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
