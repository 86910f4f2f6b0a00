"""python -m autotune record: measures a grid group by group, and goes on with a file where an earlier run stopped."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from rich.console import Console

from truffle.autotune import baselines, cost_model, grid
from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.grid import Grid, GridErrors, GridExact, GridHost
from truffle.autotune.grid_axes import parts_for
from truffle.autotune.grid_errors import Errors, errors_on
from truffle.autotune.grid_space import GridSpace, space_of
from truffle.autotune.grid_timing import CALLS, ROUNDS, SAMPLES, GridTimer, group
from truffle.autotune.target import Target, find_target
from truffle.bench.environment import environment
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels import hardware
from truffle.kernels.checks import expect
from truffle.kernels.isa import resolve
from truffle.model.config import DecodeConfig

CALIBRATION_SECONDS = 3.0


def record(arguments: argparse.Namespace) -> int:
    """Record what is missing of the grid until the time is up; 0 when it is whole, 1 when some is missing."""
    expect(math.isfinite(arguments.seconds) and arguments.seconds > 0, "seconds", "more than 0", arguments.seconds)
    end, console = time.monotonic() + arguments.seconds, Console(stderr=True, highlight=False)
    workload = parse_workload(arguments.workload)
    timer = GridTimer(workload, hardware.detect().cpu.usable_cpus, 0)
    errors, on = errors_on(arguments.model, workload, hardware.detect().cpu.usable_cpus)
    found = _kept(arguments.file, workload) or _opened(arguments, workload, timer, on)
    recorder = Recorder(found, timer, errors, workload)
    for names in recorder.groups():
        if time.monotonic() >= end:
            break
        grid.save(recorder.measured(names), arguments.file)
        console.print(f"{len(recorder.grid.step_ms)} of {len(found.settings)} settings recorded")
    missing = len(recorder.grid.missing)
    console.print(f"{arguments.file}: {missing or 'none'} missing{'; the same command goes on' if missing else ''}")
    return 1 if missing else 0


class Recorder:
    """A grid as it grows."""

    def __init__(self, found: Grid, timer: GridTimer, errors: Errors, workload: Workload) -> None:
        self.grid, self._timer, self._errors, self._workload = found, timer, errors, workload
        self._space: GridSpace = space_of(found, Path("grid"))
        self._dense_ms: dict[int, float] = {}

    def groups(self) -> list[list[str]]:
        """Keys of what is missing, by group."""
        found: dict[tuple, list[str]] = {}
        for key in self.grid.missing:
            found.setdefault(group(self._space.configs[key]), []).append(key)
        return list(found.values())

    def measured(self, keys: list[str]) -> Grid:
        """The grid with these settings of one group."""
        configs = {key: self._space.configs[key] for key in keys}
        accuracy = dict(self.grid.accuracy)
        for config in configs.values():
            if accuracy_key(config) not in accuracy:
                accuracy[accuracy_key(config)] = _rounded(self._errors(config))
        samples = self._timer.samples_s(configs)
        steps = {key: tuple(_short(self._step_ms(configs[key], s)) for s in samples[key]) for key in keys}
        found = {"accuracy": accuracy, "step_ms": {**self.grid.step_ms, **steps}}
        self.grid = self.grid.model_copy(update=found)
        return self.grid

    def _step_ms(self, config: DecodeConfig, layer_s: float) -> float:
        kinds = layer_kinds(self._workload.shape, config)
        return self._rest_ms(config, kinds.dense) + kinds.sparse * layer_s * 1e3

    def _rest_ms(self, config: DecodeConfig, dense: int) -> float:
        """Of a step, what is not its sampled layers: beside a card, an estimate; without, dense layers alone."""
        gpu, batch = self._space.target.gpu, config.execution.batch_size
        if gpu:
            return cost_model.gpu_side(self._workload.shape, config, self._workload.context, gpu).total * 1e3
        if batch not in self._dense_ms:
            self._dense_ms[batch] = self._timer.dense_s(batch) * 1e3
        return dense * self._dense_ms[batch]


def _kept(path: Path, workload: Workload) -> Grid | None:
    """The grid that an earlier run began on this machine, or None where there is no file."""
    if not path.exists():
        return None
    found, cpu = grid.load(path), hardware.detect().cpu
    here, there = (cpu.model, cpu.usable_cpus), (found.host.name, found.host.logical_cpus)
    expect(found.workload == workload.id, "workload", f"{found.workload}, of which {path} is", workload.id)
    expect(here == there, "file", f"a grid of this machine, {here}", f"{path} of {there}")
    return found


def _opened(arguments: argparse.Namespace, workload: Workload, timer: GridTimer, on: GridErrors) -> Grid:
    """A grid of which nothing is recorded but the fastest exact way."""
    here, target = hardware.detect(), None
    if arguments.gpu != "none" and (here.gpus or arguments.gpu != "auto"):
        target = find_target(arguments.gpu, None, None, CALIBRATION_SECONDS)
        expect(target.gpu_present, "gpu", "a card that is in this machine", arguments.gpu)
    gpu = target.gpu.id if target and target.gpu else None
    cpu = here.cpu
    return Grid(
        source="recorded",
        about=(_about_time(gpu),),
        command=arguments.command_line,
        environment=environment(),
        workload=workload.id,
        gpu=gpu,
        host=GridHost(name=cpu.model or "unknown CPU", logical_cpus=cpu.usable_cpus, isa=resolve("auto"),
                      memory_bytes=here.memory_limit_bytes or 1 << 40),
        exact=_exact(workload, timer, target),
        errors_on=on,
        parts=parts_for(cpu.usable_cpus, gpu),
    )  # fmt: skip


def _exact(workload: Workload, timer: GridTimer, target: Target | None) -> GridExact:
    if target is None:
        step_ms = {batch: workload.shape.layers * timer.dense_s(batch) * 1e3 for batch in (1, 4)}
        batch = max(step_ms, key=lambda batch: batch / step_ms[batch])
        return GridExact(name=baselines.ON_CPU, batch_size=batch, step_ms=step_ms[batch], kind="measured")
    best = baselines.fastest(baselines.exact_baselines(workload, target))
    assert best is not None
    assert best.step_s is not None
    return GridExact(name=best.name, batch_size=best.batch_size or 1, step_ms=best.step_s * 1e3, kind="estimated")


def _about_time(gpu: str | None) -> str:
    rest = "the rest is estimated from the card's profile" if gpu else "nothing else is in it"
    return (
        f"A step is its attention layers, of which one was timed by turns with other settings, and {rest}. Each "
        f"setting has {SAMPLES} samples, each the fastest fifth of {ROUNDS} turns of {CALLS} calls."
    )


def _rounded(figures: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else _short(value) for name, value in figures.items()}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
