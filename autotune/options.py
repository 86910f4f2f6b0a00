"""The options of a tuning run: what they may be, and what a study made with them depends on."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from pathlib import Path
from typing import Any

import truffle
from truffle.autotune.limits import Limits, read_scores
from truffle.autotune.lock import LOCK
from truffle.autotune.method_space import parse_methods
from truffle.autotune.storage import JOURNAL, StudyError
from truffle.autotune.target import Target
from truffle.bench.workloads import Workload
from truffle.kernels.checks import expect
from truffle.model.config import PAPER_DEFAULT, LshParameters, ScanParameters

# A shorter prompt is exact throughout: its middle stays in the open segment.
SHORTEST_SAMPLED = PAPER_DEFAULT.sink + PAPER_DEFAULT.window + PAPER_DEFAULT.seal_tokens


def require_options(arguments: argparse.Namespace) -> None:
    """Raise ArgumentError for a value that no run can be made with."""
    least = {"trials": 1, "timeout": 1, "accuracy_samples": 1, "accuracy_steps": 2}
    least["accuracy_context"] = SHORTEST_SAMPLED
    for name, bound in least.items():
        value = getattr(arguments, name)
        expect(math.isfinite(value) and value >= bound, name, f"a number of at least {bound}", value)
    for name in ("max_kl", "max_latency_ms"):
        value = getattr(arguments, name)
        expect(value is None or (math.isfinite(value) and value >= 0), name, "at least 0", value)
    read_scores(arguments.min_score)
    timed = arguments.max_latency_ms is not None
    expect(not (arguments.accuracy_only and timed), "max_latency_ms", "none where accuracy alone is measured",
           arguments.max_latency_ms)  # fmt: skip
    expect(arguments.seed >= 0, "seed", "at least 0", arguments.seed)
    limited = LshParameters.method in parse_methods(arguments.methods) or arguments.max_kl is not None
    expect(limited, "methods", "lsh among them, whose default sets the error limit, or a --max-kl", arguments.methods)


def limits_of(arguments: argparse.Namespace) -> Limits:
    """The limits that were asked for; on KL, none as yet where it was not."""
    return Limits(arguments.max_kl, arguments.max_latency_ms, read_scores(arguments.min_score))


def require_timed(methods: tuple[str, ...], target: Target) -> None:
    """Raise ArgumentError for a method whose steps nothing estimates, where the target is not here to run them."""
    estimated = target.is_here or target.host.kernels or ScanParameters.method not in methods
    wanted = "scan only where the target is this machine, or its host is calibrated: python -m autotune calibrate"
    expect(bool(estimated), "methods", wanted, f"{','.join(methods)} for {target.card}")


def require_free(out: Path, resume: bool, shared: bool = False) -> None:
    """Raise StudyError unless `out` is free, or holds a study to go on with where `resume` asks for one.

    A shared study is in its database: to go on with it, the folder may hold anything or be new.
    """
    if resume and not shared and not (out / JOURNAL).is_file():
        raise StudyError(f"resume: expected a study in {out}, found none")
    if not resume and out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {LOCK}):
        raise StudyError(f"out: expected an empty or new folder, got {out}; --resume goes on with a study there")


def fingerprint(arguments: argparse.Namespace, workload: Workload, target: Target) -> dict[str, Any]:
    """What a study's trials depend on; a study goes on only with the same."""
    machine = {
        "gpu": target.gpu.id if target.gpu else "none",
        "gpu_present": target.gpu_present,
        "vram_limit_bytes": target.vram_limit_bytes,
        "host": [target.host.name, target.host.logical_cpus, target.host.isa],
        "host_is_here": target.host.here,
        "host_memory_gib": round(target.host.memory_bytes / 2**30),
        **target.marks,
    }
    return {
        **({} if arguments.accuracy_only else machine),
        "accuracy_only": arguments.accuracy_only,
        "version": truffle.__version__,
        "workload": workload.id,
        "model": arguments.model,
        "accuracy": [arguments.accuracy_context, arguments.accuracy_samples, arguments.accuracy_steps],
        "max_kl": arguments.max_kl,
        "max_latency_ms": arguments.max_latency_ms,
        "min_score": sorted(arguments.min_score),
        "seed": arguments.seed,
        "methods": parse_methods(arguments.methods),
    }


def resolved_command(arguments: argparse.Namespace, target: Target) -> str:
    """The command with every option as it was taken: defaults written out, ``auto`` replaced by the card."""
    taken = {**vars(arguments), "gpu": target.gpu.id if target.gpu else "none"}
    words = ["python", "-m", "autotune"]
    for name, value in taken.items():
        if name in ("command", "command_line", "resume", "dry_run", "json") or value in (None, False):
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", *([] if one is True else [str(one)])]
    return without_password(shlex.join(words))


def without_password(command: str) -> str:
    """The command as it may be kept."""
    return re.sub(r"(://[^:@/\s]+):[^@\s]+@", r"\1:***@", command)
