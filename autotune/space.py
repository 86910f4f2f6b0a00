"""Which points there are, and which are ruled out before anything is measured."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from truffle.autotune.baselines import MOST_BATCH
from truffle.autotune.memory import does_not_fit, memory, stored_row_bytes
from truffle.autotune.record import APART, TrialRecord
from truffle.autotune.target import Target
from truffle.bench.calibration import expected_fraction
from truffle.bench.kinds import layer_kinds
from truffle.bench.workloads import Workload
from truffle.kernels import registry
from truffle.model.config import FUSED, PAPER_DEFAULT, DecodeConfig, Execution, LshParameters, Probing

PAPER_POINTS = ((8, 75), (9, 120), (10, 170), (10, 220), (11, 300))
K_RANGE, L_RANGE, MIN_HITS = (6, 13), (10, 320), (1, 2)
PINNING = ("none", "cores")
STORE_FORMATS = ("bfloat16", "int8")
PROBINGS = ("none", "ball 1", "directed 4", "directed 8", "directed 16")


@dataclass(frozen=True)
class Space:
    """The search space of one workload on one target.

    Attributes:
        threads: thread counts to try, those that the target's host has.
        seed: seed of the hyperplanes.
    """

    workload: Workload
    target: Target
    threads: tuple[int, ...]
    seed: int

    def first_points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The default, then the paper's points, with all threads and a batch of one; (origin, parameters)."""
        execution: dict[str, Any] = {"threads": len(self.threads) - 1, "batch_size": 1}
        execution |= {"store_format": Execution().store_format, "probing": "none"}
        execution |= ({"pinning": "none"} if self._may_pin else {}) | ({"attend_with": APART} if self._may_fuse else {})
        default = {"K": PAPER_DEFAULT.K, "L": PAPER_DEFAULT.L, "min_hits": PAPER_DEFAULT.min_hits}
        yield "default", {**default, **execution}
        for K, L in PAPER_POINTS:
            yield "paper", {"K": K, "L": L, "min_hits": 2, **execution}

    def suggest(self, trial: optuna.Trial) -> DecodeConfig:
        """A point as the sampler asks for it; `threads` is an index into the counts to try."""
        return self.config(
            {
                "K": trial.suggest_int("K", *K_RANGE),
                "L": trial.suggest_int("L", *L_RANGE),
                "min_hits": trial.suggest_int("min_hits", *MIN_HITS),
                "threads": trial.suggest_int("threads", 0, len(self.threads) - 1),
                "batch_size": trial.suggest_int("batch_size", 1, self.most_batch, log=True),
                "pinning": trial.suggest_categorical("pinning", PINNING) if self._may_pin else "none",
                "store_format": trial.suggest_categorical("store_format", STORE_FORMATS),
                "probing": trial.suggest_categorical("probing", PROBINGS),
                "attend_with": trial.suggest_categorical("attend_with", (APART, FUSED)) if self._may_fuse else APART,
            }
        )

    @property
    def _may_pin(self) -> bool:
        """On a host with one core there is nowhere else to be."""
        return self.threads[-1] > 1

    @functools.cached_property
    def _may_fuse(self) -> bool:
        """The reference is no faster than its parts."""
        return any(reason is None for name, reason in registry.usable(FUSED).items() if name != "reference")

    @functools.cached_property
    def most_batch(self) -> int:
        """The largest batch for which the smallest index fits, 1 at least."""
        smallest = {"K": K_RANGE[0], "L": L_RANGE[0], "min_hits": 1, "threads": 0, "store_format": "int8"}
        fitting = (batch for batch in range(MOST_BATCH, 1, -1) if self._fits({**smallest, "batch_size": batch}))
        return next(fitting, 1)

    def _fits(self, point: dict[str, Any]) -> bool:
        has_gpu = self.target.gpu is not None
        needed = memory(self.workload.shape, self.config(point), self.workload.context, has_gpu)
        return does_not_fit(needed, self.target) is None

    def config(self, point: dict[str, Any]) -> DecodeConfig:
        """The decode config of a point; threads float, queries visit their own buckets only, and two operations
        retrieve and attend, unless it says otherwise.
        """
        probing = Probing.named(point.get("probing") or "none")
        how = {"min_hits": point["min_hits"], "probing": probing, "seed": self.seed}
        parameters = LshParameters(K=point["K"], L=point["L"], **how)
        threads = self.threads[point["threads"]]
        how = {"batch_size": point["batch_size"], "store_format": point["store_format"]}
        how["pinning"] = point.get("pinning") or "none"
        execution = Execution(threads=threads, isa=self.target.host.isa, **how)
        implementations = {FUSED: "auto"} if point.get("attend_with") == FUSED else {}
        return DecodeConfig(parameters=parameters, execution=execution, implementations=implementations)

    def config_of(self, record: TrialRecord) -> DecodeConfig:
        """The decode config of a record."""
        settings = ("K", "L", "min_hits", "batch_size", "pinning", "store_format", "probing", "attend_with")
        point = {name: getattr(record, name) for name in settings}
        return self.config({**point, "threads": self.threads.index(record.threads)})

    def ruled_out(self, config: DecodeConfig, fastest_exact: float) -> str | None:
        """Why a point need not be measured, or None: memory, or slower than exact by bandwidth alone."""
        needed = memory(self.workload.shape, config, self.workload.context, self.target.gpu is not None)
        return does_not_fit(needed, self.target) or self._too_slow(config, fastest_exact)

    def _too_slow(self, config: DecodeConfig, fastest_exact: float) -> str | None:
        """A bound: the rows expected to be sampled, read once a group at the host's gather rate, and nothing else."""
        p, shape, batch = config.parameters, self.workload.shape, config.execution.batch_size
        assert isinstance(p, LshParameters)
        fraction = expected_fraction(p)
        keys = batch * layer_kinds(shape, config).sparse * shape.kv_heads * fraction * self.workload.context
        gather = self.target.host.rate(config.execution.threads).gather_512_bytes_per_s.p80
        bound = batch * gather / (keys * stored_row_bytes(shape, config))
        if bound >= fastest_exact:
            return None
        return (
            f"would sample {fraction:.1%}: at most {bound:.2g} tokens/s by gathering alone; "
            f"exact attention does {fastest_exact:.2g}"
        )


def thread_counts(usable: int) -> tuple[int, ...]:
    """Powers of two up to the usable CPUs, and all of them."""
    powers = {1 << power for power in range(usable.bit_length()) if 1 << power <= usable}
    return tuple(sorted(powers | {usable}))
