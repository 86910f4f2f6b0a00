"""The bench of this machine: throughput by the target's own means, accuracy on the model at hand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from truffle.autotune.evaluate import AccuracyMeter
from truffle.autotune.measuring import Fidelity, Measured
from truffle.autotune.target import Target
from truffle.autotune.throughput import ThroughputMeter
from truffle.bench.accuracy import Setting
from truffle.bench.workloads import Workload
from truffle.kernels import hardware
from truffle.model.config import DecodeConfig


@dataclass(frozen=True)
class Plan:
    """What a bench of this machine is made from.

    Attributes:
        model: what accuracy is measured on, by `setting`.
        tasks: names of those whose scores may be asked for.
        timed: whether throughput may be, for which the workload's keys and values are made.
    """

    workload: Workload
    target: Target
    model: str
    setting: Setting
    tasks: tuple[str, ...]
    seed: int
    timed: bool = True


class LocalBench:
    """Measures here."""

    def __init__(self, accuracy: AccuracyMeter | None, throughput: ThroughputMeter | None) -> None:
        self._measures: dict[str, Callable[[DecodeConfig], dict[str, Any]]] = {}
        self._measures |= {"throughput": throughput.measure} if throughput else {}
        if accuracy:
            self._measures |= {
                "statistics": accuracy.statistics,
                "output_error": accuracy.output_error,
                "kl": accuracy.kl,
                "tasks": accuracy.tasks,
            }

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        """See `measuring.Bench`; what a config does wrong is raised as it comes."""
        started = time.perf_counter()
        figures = self._measures[fidelity](config)
        seconds, samples = time.perf_counter() - started, figures.pop("samples", {})
        return Measured(figures, seconds, samples)


def make(plan: Plan) -> LocalBench:
    """Load the model, make the exact runs, and the workload's keys and values.

    Raises:
        ValueError: the model cannot be loaded, or not at that context, or the text is too short.
    """
    threads = hardware.detect().cpu.usable_cpus
    accuracy = AccuracyMeter(plan.model, plan.setting, threads, plan.tasks, lambda text: print(text, file=sys.stderr))
    accuracy.prepare()
    throughput = ThroughputMeter(plan.workload, plan.target, threads, plan.seed) if plan.timed else None
    return LocalBench(accuracy, throughput)


def make_timed(workload: Workload, target: Target, seed: int) -> LocalBench:
    """One that measures throughput alone, and needs no model."""
    return LocalBench(None, ThroughputMeter(workload, target, hardware.detect().cpu.usable_cpus, seed))
