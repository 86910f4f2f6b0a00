"""What a run is about, made from its options: the same for a tuner and for the workers that join its study."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from truffle.autotune.accuracy_space import AccuracySpace
from truffle.autotune.host_choices import thread_counts
from truffle.autotune.limits import Limits
from truffle.autotune.local_bench import Plan
from truffle.autotune.memory import require_weights_fit
from truffle.autotune.method_space import parse_methods
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.options import fingerprint, limits_of, require_timed
from truffle.autotune.target import Target, find_target
from truffle.bench.accuracy import Setting
from truffle.bench.workloads import Workload, parse_workload

CALIBRATION_SECONDS = 6.0


@dataclass(frozen=True)
class Setup:
    """The target, what may be tried on it, and what measures it.

    Attributes:
        fingerprint: what the trials of a study depend on.
    """

    workload: Workload
    target: Target
    space: MixedSpace
    setting: Setting
    limits: Limits
    plan: Plan
    fingerprint: dict[str, Any]


def set_up(arguments: argparse.Namespace) -> Setup:
    """Find the target, which may take seconds of calibration, and what can be tried.

    Raises:
        ValueError: an option that cannot be met, in one line.
    """
    workload, methods = parse_workload(arguments.workload), parse_methods(arguments.methods)
    target = find_target(arguments.gpu, arguments.host, arguments.vram_limit, CALIBRATION_SECONDS)
    timed = not arguments.accuracy_only
    if timed:
        require_weights_fit(workload.shape, target)
        require_timed(methods, target)
    kind = MixedSpace if timed else AccuracySpace
    space = kind(workload, target, thread_counts(target.host.logical_cpus), arguments.seed, methods)
    setting = Setting(arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps)
    limits = limits_of(arguments)
    plan = Plan(workload, target, arguments.model, setting, tuple(limits.min_scores), arguments.seed, timed)
    marks = {f"space {name}": value for name, value in space.marks.items()}
    return Setup(workload, target, space, setting, limits, plan, {**fingerprint(arguments, workload, target), **marks})
