"""python -m autotune verify: whether what a tuned file says is so here, by turns with the paper's default."""

from __future__ import annotations

import argparse
import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from truffle.autotune import grid
from truffle.autotune.contest import Contest, interval
from truffle.autotune.grid_space import space_of
from truffle.autotune.host_choices import thread_counts
from truffle.autotune.isolation import IsolatedBench
from truffle.autotune.local_bench import make_timed
from truffle.autotune.measuring import Bench
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.record import TrialRecord, describe
from truffle.autotune.replay import Recording
from truffle.autotune.setup import CALIBRATION_SECONDS
from truffle.autotune.space import Space
from truffle.autotune.target import find_target
from truffle.bench.workloads import parse_workload
from truffle.kernels.checks import expect
from truffle.model import tuned
from truffle.model.config import DecodeConfig
from truffle.model.tuned import TunedConfig

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot tell"
EXIT = {HOLDS: 0, FAILS: 1, UNKNOWN: 3}
SLACK = 0.05  # of a figure that was published: a machine is not as fast every day


@dataclass(frozen=True)
class Claim:
    """One thing that the file says: a figure that is to be reached, and its 95% interval as measured here."""

    name: str
    least: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """By the whole interval."""
        return HOLDS if self.low >= self.least else FAILS if self.high < self.least else UNKNOWN


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and return 0 where all holds, 1 where something does not, 3 where that cannot be told."""
    timeout = arguments.timeout
    expect(math.isfinite(timeout) and timeout > 0, "timeout", "more than 0", timeout)
    said = tuned.load(arguments.file)
    space = _space(said, arguments.replay, arguments.host)
    with _bench(space, arguments.replay) as bench:
        claims, problem = claims_of(said, space, bench, timeout)
    verdict = UNKNOWN if problem else overall(claims)
    notes = [*differences(said, space), *([problem] if problem else []), *space.target.notes]
    found = {"verdict": verdict, "claims": [{**asdict(c), "verdict": c.verdict} for c in claims], "notes": notes}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return EXIT[verdict]
    console = Console(highlight=False, soft_wrap=True)
    for claim in claims:
        console.print(f"{claim.name}: {claim.low:.4g} to {claim.high:.4g} here, to be {claim.least:.4g} at least: "
                      f"{claim.verdict}")  # fmt: skip
    for line in (*notes, verdict):
        console.print(line, markup=False)
    return EXIT[verdict]


def claims_of(said: TunedConfig, space: Space, bench: Bench, timeout_s: float) -> tuple[list[Claim], str | None]:
    """The config's throughput, and its gain over the default where it is another; or why they cannot be measured."""
    default = space.config(next(point for origin, point in space.first_points() if origin == "default"))
    same = _identity(default) == _identity(said.config)
    chosen = [_record(1, said.config), *([] if same else [_record(0, default)])]
    least = (1 - SLACK) * said.evidence.throughput["tokens_per_s"].value

    def claims() -> list[Claim]:
        found = [Claim("tokens/s", least, *interval(contest.rates(1)))]
        return found if same else [*found, Claim("times the default", 1.0, *contest.gain(1, 0))]

    def known(live: list[TrialRecord]) -> bool:
        return len(live) < len(chosen) or all(claim.verdict != UNKNOWN for claim in claims())

    contest = Contest(bench, None if same else chosen[1], known)
    found = contest.run(chosen, space, time.monotonic() + timeout_s)
    failed = next((record.infeasible_because for record in found if not record.confirmed), None)
    return ([], f"{failed}") if failed else (claims(), None)


def overall(claims: list[Claim]) -> str:
    """The worst of their verdicts."""
    verdicts = {claim.verdict for claim in claims}
    return FAILS if FAILS in verdicts else UNKNOWN if UNKNOWN in verdicts or not claims else HOLDS


def differences(said: TunedConfig, space: Space) -> list[str]:
    """What the file was made on that this is not."""
    host, cpu = space.target.host, said.hardware.cpu
    pairs = {"CPU": (cpu.model, host.name), "logical CPUs": (cpu.logical_cpus, host.logical_cpus)}
    return [f"made with {name} {was}, measured with {now}" for name, (was, now) in pairs.items() if was != now]


def _space(said: TunedConfig, recording: Path | None, host: Path | None) -> Space:
    if recording:
        return space_of(grid.load(recording), recording)
    limit, profile = said.hardware.vram_limit_bytes, said.hardware.profile
    size = None if limit is None else f"{limit / 2**30}GiB"
    target = find_target(profile or "none", host, size, CALIBRATION_SECONDS)
    workload = parse_workload(f"{said.model.id}@{said.workload.context}")
    return MixedSpace(workload, target, thread_counts(target.host.logical_cpus), 0)


def _bench(space: Space, recording: Path | None) -> AbstractContextManager[Bench]:
    if recording:
        return nullcontext(Recording(space_of(grid.load(recording), recording)))
    return IsolatedBench(make_timed, space.workload, space.target, space.seed)


def _record(number: int, config: DecodeConfig) -> TrialRecord:
    return TrialRecord(number=number, status="complete", origin="search" if number else "default", **describe(config))


def _identity(config: DecodeConfig) -> tuple[str, str]:
    return config.parameters.model_dump_json(), config.execution.model_dump_json()
