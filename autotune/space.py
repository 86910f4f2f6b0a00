"""Which points there are, and which are ruled out before anything is measured."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from truffle.autotune.baselines import MOST_BATCH
from truffle.autotune.bounds import too_slow
from truffle.autotune.exact_part import DENSE_LAYERS, PLAIN_EXACT, SINKS, WINDOWS, asked_exact
from truffle.autotune.filling import OWN_LAYERS, default_tables, filled_layers, read, written
from truffle.autotune.foretold_step import foretold_too_slow
from truffle.autotune.host_choices import isas, kernels
from truffle.autotune.host_model import HostKernels
from truffle.autotune.index_choices import MARKS, PAPER_POINTS, SMALLEST, asked_index, index_parameters, paper_index
from truffle.autotune.memory import does_not_fit, memory
from truffle.autotune.predict import Machine
from truffle.autotune.record import APART, ON_GPU, TrialRecord
from truffle.autotune.target import Target
from truffle.bench.workloads import Workload
from truffle.kernels import registry
from truffle.model.config import FUSED, SEPARATE, DecodeConfig, Execution, LshParameters

PINNING = ("none", "cores")
WAIT_POLICIES, MICRO_BATCHES = ("park", "spin"), (1, 2)
STORE_FORMATS = ("bfloat16", "int8")
GPU_KERNELS = "gpu_triton"


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
        """The default, then the paper's points, with all threads and a batch of one; (origin, parameters).

        Last the default that fills the card, where that is a choice: no less accurate, and as a rule faster.
        """
        execution: dict[str, Any] = {"batch_size": 1, "store_format": STORE_FORMATS[0]}
        execution |= {**PLAIN_EXACT, **self.plain_host(SEPARATE)}
        execution |= {"attend_with": APART} if self._may_fuse else {}
        execution |= {"on_gpu": False} if self.may_sample_on_gpu else {}
        execution |= {"fill_vram": False} if self.filling(1) else {}
        default = paper_index()
        yield "default", {**default, **execution}
        for K, L in PAPER_POINTS:
            yield "paper", {**paper_index(K, L), **execution}
        if self.filling(1):
            yield "search", {**default, **execution, "fill_vram": True}

    @property
    def marks(self) -> dict[str, Any]:
        """What there is to choose from, by name: trials of another space say little of this one."""
        return {
            **MARKS, "sink": SINKS, "window": WINDOWS, "dense_layers": DENSE_LAYERS,
            "batch_size": (1, self.most_batch), "store_format": STORE_FORMATS,
            "threads": self.threads, "isa": self.isas, "kernels": kernels(SEPARATE), "on_gpu": self.may_sample_on_gpu,
        }  # fmt: skip

    def suggest(self, trial: optuna.Trial) -> DecodeConfig:
        """A point as the sampler asks for it. It is asked only for what makes a difference to the rest of the point:
        queries direct their probes on the host alone, and what samples on the GPU leaves the host nothing to do.
        """
        point = {
            **asked_index(trial),
            "batch_size": trial.suggest_int("batch_size", 1, self.most_batch, log=True),
            "store_format": trial.suggest_categorical("store_format", STORE_FORMATS),
            **asked_exact(trial),
        }
        may_stay = self.may_sample_on_gpu and not point.get("probing", "none").startswith("directed")
        if may_stay and trial.suggest_categorical("on_gpu", (False, True)):
            return self.config({**point, "threads": len(self.threads) - 1, "attend_with": ON_GPU})
        how: dict[str, Any] = {"attend_with": APART}
        if self._may_fuse:
            how["attend_with"] = trial.suggest_categorical("attend_with", (APART, FUSED))
        how |= self.on_host(trial, (FUSED,) if how["attend_with"] == FUSED else SEPARATE)
        if self.target.gpu and point["batch_size"] > 1:
            how["micro_batches"] = trial.suggest_categorical("micro_batches", MICRO_BATCHES)
        if point["dense_layers"] == written(OWN_LAYERS) and self.filling(point["batch_size"]):
            how["fill_vram"] = trial.suggest_categorical("fill_vram", (False, True))
        return self.config({**point, **how})

    def on_host(self, trial: optuna.Trial, ops: tuple[str, ...]) -> dict[str, Any]:
        """How the host does its part by these operations; `threads` and `isa` are indices into what is to be tried."""
        how: dict[str, Any] = {"threads": trial.suggest_int("threads", 0, len(self.threads) - 1)}
        if self.threads[how["threads"]] > 1:  # the thread that calls is never moved, and never parks
            how["pinning"] = trial.suggest_categorical("pinning", PINNING)
            how["wait_policy"] = trial.suggest_categorical("wait_policy", WAIT_POLICIES)
        if len(kernels(ops)) > 1:
            how["kernels"] = trial.suggest_categorical("kernels", kernels(ops))
        if how.get("kernels", "auto") == "auto" and len(self.isas) > 1:  # others have their own ways
            how["isa"] = trial.suggest_int("isa", 0, len(self.isas) - 1)
        return how

    def plain_host(self, ops: tuple[str, ...]) -> dict[str, Any]:
        """`on_host` as it is by default: all threads, floating and parking, the widest ISA."""
        how: dict[str, Any] = {"threads": len(self.threads) - 1}
        how |= {"pinning": "none", "wait_policy": "park"} if self.threads[-1] > 1 else {}
        how |= {"kernels": "auto"} if len(kernels(ops)) > 1 else {}
        return how | ({"isa": len(self.isas) - 1} if len(self.isas) > 1 else {})

    @functools.cached_property
    def isas(self) -> Sequence[str]:
        """Instruction sets to try on the host, the widest last."""
        return isas(self.target.host.isa)

    def filling(self, batch: int) -> str | None:
        """The dense layers that fill what a batch that samples on the host leaves of the card, as records write them.

        None where there is no such choice: no more fit, or all do. Beside stores and tables the card is not filled.
        """
        return self.filling_beside(default_tables(batch))

    def filling_beside(self, config: DecodeConfig) -> str | None:
        """`filling` for a config of lsh or scan, whose codes may lie on the card."""
        workload = self.workload
        layers = filled_layers(workload.shape, config, workload.context, self.target.usable_gpu_bytes)
        return written(layers) if layers else None

    @functools.cached_property
    def _may_fuse(self) -> bool:
        """The reference is no faster than its parts."""
        return any(reason is None for name, reason in registry.usable(FUSED).items() if name != "reference")

    @functools.cached_property
    def may_sample_on_gpu(self) -> bool:
        """Whether the card holds the smallest store and index beside the weights, and can be asked where it is here."""
        runs = not self.target.is_here or all(registry.why_not(op, GPU_KERNELS) is None for op in SEPARATE)
        return self.target.gpu is not None and runs and self._holds(1, ON_GPU)

    @functools.cached_property
    def may_fill(self) -> bool:
        """Whether there is a batch that leaves the card room for more dense layers."""
        return any(map(self.filling, range(1, self.most_batch + 1)))

    @functools.cached_property
    def most_batch(self) -> int:
        """The largest batch for which the smallest index fits, 1 at least."""
        places = (APART, ON_GPU) if self.may_sample_on_gpu else (APART,)
        for batch in range(MOST_BATCH, 1, -1):
            if any(self._holds(batch, place) for place in places) or self._holds(batch, APART, fill_vram=True):
                return batch
        return 1

    def _holds(self, batch: int, attend_with: str, fill_vram: bool = False) -> bool:
        """Whether the smallest store and index of a batch fit."""
        smallest = {**SMALLEST, "threads": 0, "store_format": "int8"}
        how = {"batch_size": batch, "attend_with": attend_with, "fill_vram": fill_vram}
        return self._shortage(self.config({**smallest, **how})) is None

    def config(self, point: dict[str, Any]) -> DecodeConfig:
        """The decode config of a point; what it says nothing of is as it is by default."""
        how = index_parameters(point) | {name: point[name] for name in ("sink", "window") if name in point}
        layers = self.filling(point["batch_size"]) if point.get("fill_vram") else point.get("dense_layers")
        parameters = LshParameters(**how, seed=self.seed, dense_layers=read(layers))
        implementations = _implementations(point.get("attend_with", APART), point.get("kernels", "auto"))
        return DecodeConfig(parameters=parameters, execution=self.execution(point), implementations=implementations)

    def execution(self, point: dict[str, Any]) -> Execution:
        """How a point is run; what it says nothing of is as it is by default, with all threads and the widest ISA."""
        names = ("batch_size", "pinning", "wait_policy", "micro_batches", "store_format", "codes", "gather")
        return Execution(
            threads=self.threads[point.get("threads", -1)],
            isa=self.isas[point.get("isa", -1)],
            **{name: point[name] for name in names if name in point},
        )

    def config_of(self, record: TrialRecord) -> DecodeConfig:
        """The decode config of a record."""
        assert record.config is not None
        return DecodeConfig.model_validate_json(record.config)

    def ruled_out(self, config: DecodeConfig, fastest_exact: float, max_latency_ms: float | None = None) -> str | None:
        """Why a point need not be measured, or None: memory, or too slow by bandwidth alone or by the cost model."""
        bound = self._shortage(config) or too_slow(config, self.workload, self.target, fastest_exact)
        return bound or foretold_too_slow(config, self.workload, self._machine, fastest_exact, max_latency_ms)

    @functools.cached_property
    def _machine(self) -> Machine:
        kernels = self.target.host.kernels
        return Machine(self.target.gpu, HostKernels(kernels) if kernels else None)

    def _shortage(self, config: DecodeConfig) -> str | None:
        has_gpu = self.target.gpu is not None
        return does_not_fit(memory(self.workload.shape, config, self.workload.context, has_gpu), self.target)


def _implementations(attend_with: str, kernels: str) -> dict[str, str]:
    if attend_with == ON_GPU:
        return dict.fromkeys(SEPARATE, GPU_KERNELS)
    if attend_with == FUSED:
        return {FUSED: kernels}
    return {} if kernels == "auto" else dict.fromkeys(SEPARATE, kernels)
