"""Measures steps to test the cost model on: methods, tables, threads, batches and contexts, a few of each.

On a card whole steps, of Llama 3.1 8B in five minutes or less; on a CPU a few layers of Llama 3.2 1B, scaled.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch

from truffle.bench import decode, synthetic, whole_step
from truffle.bench.commands import described
from truffle.bench.workloads import Workload, parse_workload
from truffle.kernels.memory import release_memory
from truffle.model.config import (
    FUSED,
    SEPARATE,
    DecodeConfig,
    DenseParameters,
    Execution,
    LshParameters,
    MethodParameters,
    ScanParameters,
    StreamingParameters,
)

FUSING, ON_GPU = {FUSED: "cpu_native"}, dict.fromkeys(SEPARATE, "gpu_triton")
STEPS = {"cuda": 10, "cpu": 8}
Point = tuple[MethodParameters, dict[str, Any], dict[str, str]]


def workloads(device: str) -> list[Workload]:
    """Those that are measured, the first with all points."""
    names = ("llama-3.1-8b@96k", "llama-3.1-8b@16k") if device == "cuda" else ("llama-3.2-1b@32k", "llama-3.2-1b@8k")
    return [parse_workload(name) for name in names]


def points(device: str, cpus: int, many: bool) -> list[DecodeConfig]:
    """Configs to measure; the fewer of them where not `many`."""
    # A thread looks at what the card does, where there is one.
    most = max(1, cpus - 1) if device == "cuda" else cpus
    batch = 4 if device == "cuda" else 2
    lsh, scan = LshParameters(), ScanParameters()
    some: list[Point] = [
        (DenseParameters(), {}, {}),
        (lsh, {}, FUSING),
        (lsh, {"batch_size": batch}, FUSING),
        (scan, {}, {}),
    ]
    more: list[Point] = [
        (DenseParameters(), {"batch_size": batch}, {}),
        (StreamingParameters(), {}, {}),
        (lsh, {}, {}),
        *((lsh, {"threads": threads}, FUSING) for threads in sorted({max(1, most // 4), max(1, most // 2)} - {most})),
        (lsh, {"store_format": "int8"}, {}),
        (LshParameters(K=8, L=75), {}, FUSING),
        (LshParameters(K=9, L=120), {}, {}),
        (LshParameters(K=11, L=300), {}, FUSING),
        (scan, {"codes": "host"}, {}),
    ]
    if device == "cuda":
        more += [(lsh, {"batch_size": batch, "micro_batches": 2}, FUSING), (lsh, {}, ON_GPU)]
    return [
        DecodeConfig(parameters=parameters, execution=Execution(**({"threads": most} | how)), implementations=named)
        for parameters, how, named in (some + more if many else some)
    ]


def measure(device: str, cpus: int) -> Iterator[dict[str, Any]]:
    """A record a point, as it is measured."""
    for number, workload in enumerate(workloads(device)):
        material = synthetic.material(workload, device, torch.bfloat16) if device == "cuda" else None
        for config in points(device, cpus, many=number == 0):
            how = config.execution
            print(f"{workload.id}: {config.method}, batch {how.batch_size}, {how.threads} threads", file=sys.stderr)
            torch.set_num_threads(how.threads)
            if material:
                record = whole_step.time_steps(workload, config, STEPS[device], device, torch.bfloat16, material)[0]
            else:
                record = decode.time_workload(workload, config, STEPS[device], torch.bfloat16)
            yield {"op": "decode", "device": device, "workload": workload.id, **described(config), **record}
            release_memory()
            if device == "cuda":
                torch.cuda.empty_cache()
