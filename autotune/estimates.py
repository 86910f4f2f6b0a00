"""What `python -m autotune estimate` says: steps of a workload on every card that has a profile, none of them run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from truffle.autotune import known_error
from truffle.autotune.host_model import HostKernels
from truffle.autotune.known_error import KnownError
from truffle.autotune.measured_profile import with_measured
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.predict import Machine, step_time
from truffle.autotune.target import Target, host_of
from truffle.bench import host_file
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels import profiles
from truffle.kernels.checks import expect
from truffle.model.config import FUSED, DecodeConfig, DenseParameters, Execution, LshParameters, ScanParameters


def run(arguments: argparse.Namespace) -> int:
    """Print what dense attention, tables and a scan would take."""
    workload = parse_workload(arguments.workload)
    expect(arguments.batch >= 1, "batch", "at least 1", arguments.batch)
    calibration = HostCalibration.load(arguments.host) if arguments.host else host_file.of_this_machine()
    expect(calibration is not None, "host", "a calibrated one: python -m autotune calibrate, or --host FILE", None)
    assert calibration is not None
    names = profiles.known() if arguments.gpu == "all" else (profiles.load(arguments.gpu).id,)
    rows = [row for name in names for row in _rows(name, workload, calibration, arguments.batch)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    _show(rows, workload, calibration)
    return 0


def _rows(name: str, workload: Workload, calibration: HostCalibration, batch: int) -> Iterator[dict[str, Any]]:
    host, gpu = host_of(calibration), with_measured(profiles.load(name), calibration)
    target, machine = Target(gpu, False, host, ()), Machine(gpu, HostKernels(calibration.kernels))
    for config in _configs(host.logical_cpus, batch):
        row = {"gpu": name, "method": config.method, "batch": batch, "kind": "estimated"}
        reason = does_not_fit(memory(workload.shape, config, workload.context, has_gpu=True), target)
        step_s = step_time(workload.shape, config, workload.context, machine).total
        known = known_error.find(gpu, config.method, "predicted")
        low, high = known.seconds(step_s) if known else (None, None)
        yield row | {"step_s": step_s, "step_s_low": low, "step_s_high": high, "tokens_per_s": batch / step_s,
                     "error_from": _told(known, config) if known else None, "does_not_fit": reason}  # fmt: skip


def _told(known: KnownError, config: DecodeConfig) -> str:
    """The error, and that it leaves out how far the host's part is off where that is predicted."""
    asks_host = not isinstance(config.parameters, DenseParameters)
    alone = asks_host and known.host_part != "predicted"
    return known.sentence + (
        " The host's part is predicted here, and its own error not in the interval." if alone else ""
    )


def _configs(cpus: int, batch: int) -> list[DecodeConfig]:
    """Exact attention, the paper's tables, and the default scan."""
    execution = Execution(threads=max(1, cpus - 1), batch_size=batch)
    fused = {FUSED: "cpu_native"}
    return [
        DecodeConfig(parameters=DenseParameters(), execution=execution),
        DecodeConfig(parameters=LshParameters(), execution=execution, implementations=fused),
        DecodeConfig(parameters=ScanParameters(), execution=execution),
    ]


def _show(rows: list[dict[str, Any]], workload: Workload, calibration: HostCalibration) -> None:
    table = Table("card", "method", "a step", "nine in ten within", "tokens/s", "fits", box=None, pad_edge=False)
    for row in rows:
        low, high = row["step_s_low"], row["step_s_high"]
        interval = f"{low * 1e3:,.1f} to {high * 1e3:,.1f} ms" if low else "not back-tested"
        times = f"{row['step_s'] * 1e3:,.1f} ms", interval, f"{row['tokens_per_s']:,.1f}"
        table.add_row(row["gpu"], row["method"], *times, f"no: {no}" if (no := row["does_not_fit"]) else "yes")
    console = Console()
    console.width = max(console.width, 140)
    console.print(table)
    host = f"{host_file.described(calibration.cpu)}, calibrated {calibration.created[:10]}"
    print(f"\n{workload.id}, all estimated, nothing run, as if it fitted where it does not; the host is {host}.")
    for sentence in dict.fromkeys(row["error_from"] for row in rows if row.get("error_from")):
        print(sentence)
