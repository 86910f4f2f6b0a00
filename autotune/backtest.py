"""Predicted decode steps against measured ones: how far the cost model is to be trusted.

Steps come from files of records (`python -m truffle.bench decode`, `scaling` and `transfers`), which say what they were
measured with. A file that a profile's figure comes from is no test of it and is left out.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from truffle.autotune import overlap
from truffle.autotune.host_model import HostKernels
from truffle.autotune.measured_profile import with_measured
from truffle.autotune.predict import Machine, step_time
from truffle.bench import host_file
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels import profiles
from truffle.kernels.checks import ArgumentError, expect
from truffle.kernels.profiles import Figure, GpuProfile
from truffle.model.config import METHODS, DecodeConfig, Execution, LshParameters, ScanParameters
from truffle.model.shapes import SHAPES

OPS = ("decode", "scaling", "transfers")
EXECUTION = ("threads", "isa", "wait_policy", "micro_batches", "store_format", "codes", "gather")
MEDIAN, UNDISTURBED = "p50", "p20"


@dataclass(frozen=True)
class MeasuredStep:
    """A step that was timed.

    Attributes:
        answer_s: what the host took of a layer for a lane, where that was traced.
        gpu, cpu: names of the card, if there was one, and of the processor.
    """

    source: str
    workload: Workload
    config: DecodeConfig
    seconds: dict[str, float]
    answer_s: float | None
    gpu: str | None
    cpu: str


@dataclass(frozen=True)
class Comparison:
    """A measured step and its prediction, in milliseconds; `answered` says that the host's part was taken from the
    trace."""

    source: str
    method: str
    workload: str
    parameters: str
    batch: int
    threads: int
    store_format: str
    micro_batches: int
    sampled_on: str
    answered: bool
    measured_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_ms / self.measured_ms - 1


def read_steps(paths: Iterable[Path]) -> list[MeasuredStep]:
    """The steps of record files that a model of kernels can speak of.

    Raises:
        ArgumentError: a file is no file of records.
    """
    return [step for path in paths for step in _steps_of(path)]


def _steps_of(path: Path) -> Iterator[MeasuredStep]:
    try:
        content = json.loads(path.read_text())
        records, around = content["records"], content["environment"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{path}: expected a JSON file of records, got {error!r:.80}") from None
    cpu, gpus = around["cpu"], around["gpus"]
    for record in records:
        if record.get("op") not in OPS:
            continue
        config = _config_of(record, content["command"])
        if config.selects:
            continue
        yield MeasuredStep(
            source=path.name,
            workload=_workload_of(record, content["command"]),
            config=config,
            seconds={MEDIAN: record["median_us"] / 1e6, UNDISTURBED: record.get("p20_us", record["median_us"]) / 1e6},
            answer_s=record["layer_host_us"] / 1e6 if "layer_host_us" in record else None,
            gpu=gpus[0]["name"] if record["device"] == "cuda" else None,
            cpu=f"{cpu['model'] or 'unknown CPU'}, {cpu['usable_cpus']} CPUs",
        )


def _config_of(record: dict[str, Any], command: str) -> DecodeConfig:
    how = {name: record[name] for name in EXECUTION if name in record}
    words = shlex.split(command)
    in_command = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--impl"]
    named = [record["implementations"]] if "implementations" in record else in_command
    return DecodeConfig(
        parameters=METHODS[record["method"]].model_validate_json(record["parameters"]),
        execution=Execution(batch_size=record["batch"], **how),
        implementations=dict(part.split("=") for names in named for part in names.split(",") if part),
    )


def _workload_of(record: dict[str, Any], command: str) -> Workload:
    name = record.get("workload") or f"{record['model']}@{record['context']}"
    if name.partition("@")[0] not in SHAPES:
        raise ArgumentError(f"records: expected steps of {', '.join(SHAPES)}, got {name}: {command}")
    return dataclasses.replace(parse_workload(name), deviation=record.get("cosine_deviation"))


def compare(
    steps: Iterable[MeasuredStep], calibration: HostCalibration | None, quantile: str = MEDIAN
) -> list[Comparison]:
    """Each step beside what the model makes of it.

    Args:
        calibration: of the machine that the steps were measured on. Without it the host's part is that of the trace,
            and steps without a trace that need the host are left out: the card, the link and what overlaps are tested.
        quantile: of the steps' times, and of the kernels'.

    Raises:
        ArgumentError: the calibration is of another machine.
    """
    kernels = HostKernels(calibration.kernels, quantile) if calibration else None
    found = []
    for step in steps:
        if calibration:
            there = host_file.described(calibration.cpu)
            expect(there == step.cpu, "host", f"a calibration of {step.cpu}, where {step.source} was measured", there)
        gpu = _card(step, calibration)
        seconds = _predicted(step, Machine(gpu, kernels))
        if seconds is None or (gpu is not None and _is_source(step.source, gpu)):
            continue
        found.append(_comparison(step, seconds, kernels is None and step.answer_s is not None, quantile))
    return found


def _card(step: MeasuredStep, calibration: HostCalibration | None) -> GpuProfile | None:
    if step.gpu is None:
        return None
    gpu = profiles.matching(step.gpu)
    expect(gpu is not None, "records", "steps on a card that has a profile", step.gpu)
    assert gpu is not None
    return with_measured(gpu, calibration)


def _is_source(name: str, gpu: GpuProfile) -> bool:
    figures = [figure for _, figure in gpu if isinstance(figure, Figure)]
    return any(name in figure.source for figure in figures)


def _predicted(step: MeasuredStep, machine: Machine) -> float | None:
    shape, context = step.workload.shape, step.workload.context
    alone = (
        not isinstance(step.config.parameters, LshParameters | ScanParameters)
        or step.config.resident
        or step.config.linked
    )
    if machine.host or (alone and machine.gpu):
        return step_time(shape, step.config, context, machine, step.workload.deviation).total
    if machine.gpu is None or step.answer_s is None:
        return None
    return overlap.step_time(shape, step.config, context, machine.gpu, 0.0, step.answer_s).total


def _comparison(step: MeasuredStep, seconds: float, answered: bool, quantile: str) -> Comparison:
    how, place = step.config.execution, "GPU" if step.config.resident else "CPU"
    sampled = isinstance(step.config.parameters, LshParameters | ScanParameters)
    return Comparison(
        source=step.source,
        method=step.config.method,
        workload=f"{step.workload.model}@{step.workload.context}",
        parameters=step.config.parameters.model_dump_json(),
        batch=how.batch_size,
        threads=how.threads,
        store_format=how.store_format,
        micro_batches=how.micro_batches,
        sampled_on=place if sampled else "",
        answered=answered,
        measured_ms=step.seconds[quantile] * 1e3,
        predicted_ms=seconds * 1e3,
    )


def summary(comparisons: list[Comparison]) -> dict[str, dict[str, float]]:
    """Errors over all and by method: how many, the median and quantiles of their size, and the median with its sign."""
    methods = sorted({one.method for one in comparisons})
    groups = {"all": comparisons} | {name: [one for one in comparisons if one.method == name] for name in methods}
    return {name: _errors(group) for name, group in groups.items()}


def _errors(group: list[Comparison]) -> dict[str, float]:
    errors = np.array([one.error for one in group])
    median, p80, p90 = np.quantile(np.abs(errors), [0.5, 0.8, 0.9])
    return {
        "steps": len(group),
        "median": float(median),
        "p80": float(p80),
        "p90": float(p90),
        "most": float(np.abs(errors).max()),
        "bias": float(np.median(errors)),
    }
