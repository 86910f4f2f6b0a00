"""Stand-ins for measurement: figures by formula, so that the tuner's own judgement can be tested."""

from __future__ import annotations

from typing import Any

from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.mixed_space import MixedSpace
from truffle.autotune.record import TrialRecord
from truffle.autotune.target import Host, Target
from truffle.bench.bandwidth import HostRates
from truffle.bench.spread import Spread
from truffle.bench.workloads import parse_workload
from truffle.kernels import profiles
from truffle.model.config import DecodeConfig, LshParameters


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


class Accuracy:
    """KL falls with L and rises with K, those of the default under other methods; counts what was measured."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self._known: dict[str, dict[str, Any]] = {}

    def measure(self, config: DecodeConfig) -> dict[str, Any]:
        key = accuracy_key(config)
        if key not in self._known:
            self.measured.append(key)
            p = tables(config)
            kl = 0.02 * (p.K / 10) ** 6 * (150 / p.L) ** 2
            self._known[key] = {
                "kl": kl, "kl_low": kl * 0.9, "kl_high": kl * 1.1, "top1": 0.9, "perplexity_ratio": 1.0 + kl,
                "output_error": kl**0.5, "density": 0.02, "rows": 0.05,
            }  # fmt: skip
        return self._known[key]

    def remember(self, config: DecodeConfig, figures: dict[str, Any]) -> None:
        names = ("kl", "kl_low", "kl_high", "top1", "perplexity_ratio", "output_error", "density", "rows")
        key = accuracy_key(config)
        self._known.setdefault(key, {name: figures[name] for name in names})


class Throughput:
    """Faster with fewer expected keys and more threads."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls, self._fail_at, self._error = 0, fail_at, error

    def measure(self, config: DecodeConfig, seconds: float = 1.0) -> dict[str, Any]:
        self.calls += 1
        if self.calls == self._fail_at and self._error:
            raise self._error
        p, execution = tables(config), config.execution
        rate = 1e3 * execution.threads * execution.batch_size**0.5 / (p.L * 2.0 ** (10 - p.K))
        return {
            "tokens_per_s": rate, "tokens_per_s_low": rate * 0.99, "tokens_per_s_high": rate * 1.01,
            "throughput_kind": "estimated", "step_ms": 1e3 / rate, "sampled_fraction": 0.02,
        }  # fmt: skip


def record(number: int, kl: float, rate: float, **changes: Any) -> TrialRecord:
    settings = {
        "K": 10, "L": 150, "min_hits": 2, "threads": 4, "batch_size": 1, "tokens_per_s_low": rate * 0.98,
        "tokens_per_s_high": rate * 1.02, "throughput_kind": "estimated", "feasible": True, "kl_low": kl, "kl_high": kl,
        "origin": "search", "kl": kl, "tokens_per_s": rate, "store_format": "bfloat16", **changes,
    }  # fmt: skip
    return TrialRecord(number=number, status="complete", label=f"lsh {number}", method="lsh", **settings)
