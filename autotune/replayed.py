"""A tuning run on a recorded grid: what is set up from the file in place of this machine."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from truffle.autotune import grid
from truffle.autotune.baselines import Baseline, exact_baselines
from truffle.autotune.grid_space import GridSpace, space_of
from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.local_bench import Plan, make
from truffle.autotune.measuring import Bench
from truffle.autotune.options import fingerprint, limits_of
from truffle.autotune.replay import Recording
from truffle.autotune.setup import Setup
from truffle.bench.accuracy import Setting
from truffle.kernels.checks import expect


def replayed_setup(arguments: argparse.Namespace) -> Setup:
    """The setup of `--replay`; options that say what to measure are taken from the file.

    Raises:
        ArgumentError: the file is no grid, or one of which nothing is recorded, or an option does not go with it.
    """
    found = grid.load(arguments.replay)
    expect(not found.missing, "replay", "a grid that is recorded whole", f"{len(found.missing)} settings without times")
    for name in ("storage", "host", "vram_limit", "min_score", "accuracy_only"):
        given = getattr(arguments, name)
        expect(not given, name, "none beside --replay, which measures nothing", given)
    space, errors = space_of(found, arguments.replay), found.errors_on
    _take(arguments, {
        "gpu": found.gpu or "none", "workload": found.workload, "methods": ",".join(space.methods),
        "model": errors.model, "accuracy_context": errors.context, "accuracy_samples": errors.samples,
        "accuracy_steps": errors.steps,
    })  # fmt: skip
    setting = Setting(errors.context, errors.samples, errors.steps)
    plan = Plan(space.workload, space.target, errors.model, setting, (), arguments.seed)
    marks = {**fingerprint(arguments, space.workload, space.target), **space.marks}
    return Setup(space.workload, space.target, space, setting, limits_of(arguments), plan, marks)


def _take(arguments: argparse.Namespace, decided: dict[str, Any]) -> None:
    """Put what the file decides in place of what was left open; what was asked for otherwise is refused."""
    from truffle.autotune.cli import build_parser

    left_open = build_parser().parse_args(["tune"])
    for name, value in decided.items():
        given, expected = getattr(arguments, name), f"{value!r}, as {arguments.replay} has it, or nothing"
        expect(given in (value, getattr(left_open, name)), name, expected, repr(given))
        setattr(arguments, name, value)


def bench_of(setup: Setup) -> AbstractContextManager[Bench]:
    """What measures: a process of this machine, or the recording that stands in for it."""
    if isinstance(setup.space, GridSpace):
        return nullcontext(Recording(setup.space, setup.plan.seed))
    return IsolatedBench(make, setup.plan)


def exact_ways_of(setup: Setup) -> list[Baseline]:
    """The exact ways to do the workload: estimated, or the one that the recording knows."""
    if not isinstance(setup.space, GridSpace):
        return exact_baselines(setup.workload, setup.target)
    exact = setup.space.grid.exact
    rate = exact.batch_size / exact.step_ms * 1e3
    return [Baseline(exact.name, True, None, exact.batch_size, rate, kind="replayed", step_s=exact.step_ms / 1e3)]
