"""What of a tuned config cannot run on another machine, and what takes its place."""

from __future__ import annotations

from collections.abc import Iterator

from truffle.kernels import isa_flags, registry
from truffle.kernels.hardware import HardwareProfile
from truffle.model.config import DecodeConfig

Change = tuple[str, object, str]


def runnable(config: DecodeConfig, hardware: HardwareProfile) -> tuple[DecodeConfig, tuple[str, ...]]:
    """The config with what cannot run on `hardware` left to `auto`, and a sentence on each such thing."""
    changes = list(_execution(config, hardware))
    execution = config.execution.model_copy(update={name: value for name, value, _ in changes})
    dropped = dict(_unusable(config, hardware))
    kept = {op: name for op, name in config.implementations.items() if op not in dropped}
    warnings = [why for _, _, why in changes]
    warnings += [f"{op}: auto instead of {config.implementations[op]}: {why}" for op, why in dropped.items()]
    return config.model_copy(update={"execution": execution, "implementations": kept}), tuple(warnings)


def _execution(config: DecodeConfig, hardware: HardwareProfile) -> Iterator[Change]:
    isa, threads, usable = config.execution.isa, config.execution.threads, hardware.cpu.usable_cpus
    lacking = isa_flags.why_not(isa, hardware.cpu.isa)
    if lacking:
        yield "isa", "auto", f"other ISA: auto instead of {isa}: {lacking}"
    if threads > usable:
        yield "threads", usable, f"threads: {usable} instead of {threads}: no more CPUs are usable here"


def _unusable(config: DecodeConfig, hardware: HardwareProfile) -> Iterator[tuple[str, str]]:
    for op, name in config.implementations.items():
        if op not in registry.ops() or name not in (*registry.names(op), "auto"):
            yield op, "this truffle has no such implementation"
        elif name.startswith("gpu_") and not hardware.gpus:
            yield op, "there is no GPU"
