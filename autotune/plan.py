"""Says what a run would try, for --dry-run."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from truffle.autotune import baselines
from truffle.autotune.accuracy_space import AccuracySpace
from truffle.autotune.baselines import Baseline
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.method_space import RANGES
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.record import describe
from truffle.autotune.scan_space import SCAN, places
from truffle.autotune.setup import Setup
from truffle.autotune.storage import require_same, require_same_kept
from truffle.autotune.worker import known_study
from truffle.model.config import DecodeConfig, LshParameters


def dry_run(arguments: argparse.Namespace, setup: Setup, ways: list[Baseline], out: Path) -> int:
    """Print the plan; of a study to go on with only after it was found to be of the same.

    Raises:
        StudyError: it is of something else, or not there.
    """
    if arguments.resume and arguments.storage:
        require_same(known_study(arguments.storage, arguments.study or out.name), setup.fingerprint)
    elif arguments.resume:
        require_same_kept(out, setup.fingerprint)
    print_plan(setup.space, ways)
    return 0


def print_plan(space: MixedSpace, ways: list[Baseline]) -> None:
    """The exact ways, and of the first points whether they fit."""
    console, target = Console(highlight=False), space.target
    console.print(f"workload {space.workload.id} on {target.card} with {target.host.name}")
    for way in ways:
        rate = f"{way.tokens_per_s:.3g} tokens/s at batch {way.batch_size}" if way.fits else f"no: {way.reason}"
        console.print(f"  exact, {way.name}: {rate}")
    fastest = baselines.fastest(ways)
    console.print(f"fastest exact: {fastest.name}; first points:" if fastest else "accuracy alone; first points:")
    for origin, point in space.first_points():
        config = space.config(point)
        console.print(f"  {origin} {describe(config)['label']}{_fit(space, config)}")
    tried = "; ".join(_tried(space, method) for method in space.methods)
    console.print(f"then the sampler: {tried}; no setting was measured, nothing was written")


def _fit(space: MixedSpace, config: DecodeConfig) -> str:
    if isinstance(space, AccuracySpace):  # no machine has a say in it
        return ""
    needed = memory(space.workload.shape, config, space.workload.context, space.target.gpu is not None)
    return ": " + (does_not_fit(needed, space.target) or f"fits ({needed.host_bytes / 1e9:.1f} GB on the host)")


def _tried(space: MixedSpace, method: str) -> str:
    if isinstance(space, AccuracySpace):
        own = RANGES.get(method, ("K", "L", "min_hits", "family", "probing"))
        return f"{method} with {', '.join([*own, 'and what is exact beside it'])}"
    if method not in (LshParameters.method, SCAN):
        return f"{method} with {', '.join([*RANGES[method], 'batch size'])}"
    has_gpu = space.target.gpu is not None
    dense = ", what is left of the GPU filled with dense layers or not" if space.may_fill else ""
    shared = (
        f"sink, window, dense layers, batch size to {space.most_batch}, store format, threads in {space.threads}, ISA "
        f"in {tuple(space.isas)}, kernels, pinning, waiting{dense}"
    )
    if method == SCAN:
        return f"{method} with {', '.join(RANGES[method])}, {shared}, codes in {places(space)}"
    halves = ", the batch in one or two halves" if has_gpu and space.most_batch > 1 else ""
    on_gpu = ", sampled on the GPU or not" if space.may_sample_on_gpu else ""
    return f"{method} with K, L, min_hits, probing, {shared}, fused or not{halves}{on_gpu}"
