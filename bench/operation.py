"""Times operations: implementations of one side by side, on the same arguments, after their gate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from truffle.bench import gate
from truffle.bench.arguments import LayerData
from truffle.bench.timing import interleaved_s, quantiles_us
from truffle.kernels import registry

QUERY_DRAWS = 4  # several sets of queries, so that one set's rows are not all in cache


def time_operation(
    op: str, names: tuple[str, ...], data: LayerData, threads: int, isa: str, seconds: float, peaks: dict[str, float]
) -> list[dict[str, Any]]:
    """One record an implementation: gate, then median, p20 and p80 of interleaved calls, bytes and bandwidth.

    An implementation that is unusable here or fails its gate gets a record with the reason and no time.

    Args:
        peaks: bytes a second that `share_of_peak` refers to, by device.
    """
    records: dict[str, dict[str, Any]] = {}
    contenders: dict[str, Callable[[], object]] = {}
    bytes_moved = None
    for name in names:
        record = _described(op, name, data, threads, isa)
        records[name] = record
        record["gate"], used = _gate(op, name, threads, isa)
        record["isa"] = used
        if record["gate"] != "passed":
            continue
        device = _device(op, name)
        draws = [gate.moved(data.arguments(op)(draw), device) for draw in range(_draws(op))]
        contenders[name] = _call(op, name, draws, threads, used, device)
        contenders[name]()
        bytes_moved = bytes_moved or registry.contract(op).bytes_moved(gate.moved(draws[0], "cpu"))
    if contenders:
        for name, samples in interleaved_s(contenders, seconds).items():
            records[name] |= _timed(samples, bytes_moved or 0, peaks[_device(op, name)])
    return list(records.values())


def _draws(op: str) -> int:
    return QUERY_DRAWS if op in ("retrieve", "sparse_attend") else 1


def _device(op: str, name: str) -> str:
    """Where the implementation's tensors live; a GPU kernel that is interpreted takes the CPU's."""
    on_gpu = registry.get(op, name).needs.device == "cuda" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def resolve(level: str) -> str:
    """The instruction set that the native kernels take for `level`."""
    from truffle.kernels import isa

    return isa.resolve(level)


def _gate(op: str, name: str, threads: int, isa: str) -> tuple[str, str]:
    """``passed`` or why not, and the ISA that is used."""
    reason = registry.why_not(op, name)
    if reason:
        return f"unusable: {reason}", isa
    implementation = registry.get(op, name)
    used = resolve(isa) if implementation.needs.isas else "auto"
    problem = gate.check(implementation, threads, used, _device(op, name))
    return (f"failed: {problem}" if problem else "passed"), used


def _call(op: str, name: str, draws: list[dict[str, Any]], threads: int, isa: str, device: str) -> Callable[[], object]:
    """A call that goes through the draws in turn."""
    implementation, turn = registry.get(op, name), itertools.cycle(draws)

    def call() -> None:
        implementation(**next(turn), threads=threads, isa=isa)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def _described(op: str, name: str, data: LayerData, threads: int, isa: str) -> dict[str, Any]:
    s = data.sizes
    return {
        "op": op, "impl": name, "threads": threads, "isa": isa, "context": s.context, "heads": s.heads,
        "kv_heads": s.kv_heads, "head_dim": s.head_dim, "K": s.K, "L": s.L, "min_hits": s.min_hits,
        "batch": s.batch, "seed": s.seed, "dtype": str(s.dtype).removeprefix("torch."),
    }  # fmt: skip


def _timed(samples_s: list[float], bytes_moved: int, peak_bytes_per_s: float) -> dict[str, Any]:
    times = quantiles_us(samples_s)
    bandwidth = bytes_moved / times["median_us"] * 1e6
    return {
        **times,
        "samples": len(samples_s),
        "bytes_moved": bytes_moved,
        "bandwidth_bytes_per_s": bandwidth,
        "peak_bytes_per_s": peak_bytes_per_s,
        "share_of_peak": bandwidth / peak_bytes_per_s,
    }
