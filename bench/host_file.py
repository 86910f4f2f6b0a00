"""Where a host's calibration is kept, and whether one is of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from truffle.bench.bandwidth import HostCalibration
from truffle.kernels import hardware
from truffle.kernels.checks import expect


def default_path() -> Path:
    """In the user's cache folder, `~/.cache` or XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "truffle/host.json"


def described(cpu: hardware.Cpu) -> str:
    """Such as ``AMD EPYC, 2 CPUs``."""
    return f"{cpu.model or 'unknown CPU'}, {cpu.usable_cpus} CPUs"


def difference(calibration: HostCalibration, here: hardware.Cpu) -> str | None:
    """What tells the calibrated host from this one, or None: the model, the CPUs that may be used, the instructions."""
    there = calibration.cpu
    if (there.model, there.usable_cpus) != (here.model, here.usable_cpus):
        return f"it is {described(there)}, this machine {described(here)}"
    if set(there.isa) != set(here.isa):
        return f"its instructions differ by {', '.join(sorted(set(there.isa) ^ set(here.isa)))}"
    return None


def why_unused(here: hardware.Cpu) -> str | None:
    """Why the calibration that is kept says nothing of this machine; None where it does, or none is kept."""
    path = default_path()
    problem = difference(HostCalibration.load(path), here) if path.is_file() else None
    return problem and f"{path} is left aside, for {problem}; `python -m autotune calibrate` measures this machine"


def of_this_machine(path: Path | None = None) -> HostCalibration | None:
    """The calibration at `path`, or where it is kept, if there is one; None where that is of another machine.

    Raises:
        ArgumentError: there is a file that is no calibration, or one that was asked for is of another machine.
    """
    found = path or default_path()
    if path is None and not found.is_file():
        return None
    calibration = HostCalibration.load(found)
    problem = difference(calibration, hardware.detect().cpu)
    if path is not None:
        expect(problem is None, "host", "a calibration of this machine", f"{path}: {problem}")
    return None if problem else calibration
