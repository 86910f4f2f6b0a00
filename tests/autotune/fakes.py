"""Stand-ins for measurement: figures by formula, so that the tuner's own judgement can be tested."""

from __future__ import annotations

import json
from typing import Any

from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.measuring import Fidelity, Measured
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.record import TrialRecord, describe
from truffle.autotune.target import Host, Target
from truffle.bench.bandwidth import HostRates
from truffle.bench.spread import Spread
from truffle.bench.workloads import parse_workload
from truffle.kernels import profiles
from truffle.model.config import DecodeConfig, LshParameters

POINT = ("probing", "attend_with", "dense_layers", "pinning", "wait_policy", "micro_batches")


def rates(threads: int, scale: float = 1e9) -> HostRates:
    def spread(value: float) -> Spread:
        return Spread(p20=value, p50=value, p80=value, repeats=3)

    gb = scale * threads
    return HostRates(
        threads=threads,
        read_bytes_per_s=spread(10 * gb),
        copy_bytes_per_s=spread(10 * gb),
        triad_bytes_per_s=spread(10 * gb),
        gather_256_bytes_per_s=spread(5 * gb),
        gather_512_bytes_per_s=spread(8 * gb),
        matmul_flops_per_s=spread(50 * gb),
    )


def space(
    memory_gib: float = 256,
    workload: str = "llama-3.1-8b@96k",
    gpu: str = "4090",
    vram_limit_gib: float | None = None,
    present: bool = False,
    methods: tuple[str, ...] = ("lsh",),
) -> MixedSpace:
    host = Host("test CPU", 4, int(memory_gib * 2**30), (rates(1), rates(2), rates(4)), "scalar", True, "made up")
    limit = None if vram_limit_gib is None else int(vram_limit_gib * 2**30)
    target = Target(None if gpu == "none" else profiles.load(gpu), present, host, (), limit)
    return MixedSpace(parse_workload(workload), target, (1, 2, 4), 0, methods)


def tables(config: DecodeConfig) -> LshParameters:
    return config.parameters if isinstance(config.parameters, LshParameters) else LshParameters()


class Bench:
    """Figures by formula: KL falls with L and rises with K, and is those of the default under other methods; fewer
    expected keys and more threads are faster. Notes what it was asked.

    Args:
        fail_at: the measurement of throughput, counted from 1, that raises `error` instead.
    """

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.timed, self._fail_at, self._error = 0, fail_at, error

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        self.asked.append((fidelity, accuracy_key(config)))
        return Measured(getattr(self, f"_{fidelity}")(config), 0.01)

    def keys(self, fidelity: str) -> list[str]:
        return [key for asked, key in self.asked if asked == fidelity]

    def _statistics(self, config: DecodeConfig) -> dict[str, Any]:
        return {"screen_error": _kl(config) ** 0.5, "density": 0.02, "rows": 0.05}

    def _output_error(self, config: DecodeConfig) -> dict[str, Any]:
        return {"output_error": _kl(config) ** 0.5, "density": 0.02, "rows": 0.05}

    def _kl(self, config: DecodeConfig) -> dict[str, Any]:
        kl = _kl(config)
        return {"kl": kl, "kl_low": kl * 0.9, "kl_high": kl * 1.1, "top1": 0.9, "perplexity_ratio": 1.0 + kl}

    def _tasks(self, config: DecodeConfig) -> dict[str, Any]:
        return {"scores": json.dumps({"niah_single_1": 100 - 1000 * _kl(config)})}

    def _throughput(self, config: DecodeConfig) -> dict[str, Any]:
        self.timed += 1
        if self.timed == self._fail_at and self._error:
            raise self._error
        p, execution = tables(config), config.execution
        rate = 1e3 * execution.threads * execution.batch_size**0.5 / (p.L * 2.0 ** (10 - p.K))
        return {
            "tokens_per_s": rate, "tokens_per_s_low": rate * 0.99, "tokens_per_s_high": rate * 1.01,
            "throughput_kind": "estimated", "step_ms": 1e3 * execution.batch_size / rate, "sampled_fraction": 0.02,
        }  # fmt: skip


def _kl(config: DecodeConfig) -> float:
    p = tables(config)
    return 0.02 * (p.K / 10) ** 6 * (150 / p.L) ** 2


def record(number: int, kl: float, rate: float, **changes: Any) -> TrialRecord:
    """A complete record of lsh; `point` are settings of its config beyond the default's."""
    point = {"K": 10, "L": 150, "min_hits": 2, "threads": 2, "batch_size": 1, "store_format": "bfloat16"}
    given = {name: value for name, value in changes.items() if name in (*point, *POINT)}
    config = space().config({**point, **given})
    settings = {
        **describe(config), "tokens_per_s_low": rate * 0.98, "tokens_per_s_high": rate * 1.02, "feasible": True,
        "throughput_kind": "estimated", "kl_low": kl, "kl_high": kl, "origin": "search", "kl": kl,
        "tokens_per_s": rate, "label": f"lsh {number}",
        **{name: value for name, value in changes.items() if name not in given},
    }  # fmt: skip
    return TrialRecord(number=number, status="complete", **settings)
