"""Times operations: implementations of one side by side, on the same arguments, after their gate."""

from __future__ import annotations

from typing import Any

import numpy as np

from truffle.bench import scan_arguments, step
from truffle.bench.arguments import arguments_of
from truffle.bench.contender import PASSED, READS_SAMPLES, Contender, registered
from truffle.bench.device_time import device_times_us, waiting
from truffle.bench.layer_data import LayerData
from truffle.bench.magicpig import contender as magicpig
from truffle.bench.magicpig import hashing
from truffle.bench.quiet import wait_until_quiet
from truffle.bench.timing import interleaved_s, median_ci95, quantiles_us
from truffle.kernels import registry
from truffle.model.torch_threads import torch_threads

SCAN = "scan_sample"
RIVALS = (magicpig.NAME, hashing.NAME)


def names(op: str) -> dict[str, str | None]:
    """Everything that can be timed as `op`, with None where it runs here and the reason where it does not."""
    found = step.names() if op == step.OP else registry.usable(op)
    found |= {magicpig.NAME: None} if magicpig.offered(op) else {}
    return found | ({hashing.NAME: hashing.why_not()} if op == "hash_codes" else {})


def time_operation(
    op: str, names: tuple[str, ...], data: LayerData, threads: int, isa: str, seconds: float, peaks: dict[str, float]
) -> list[dict[str, Any]]:
    """One record an implementation: gate, then median, p20 and p80 of interleaved calls, bytes and bandwidth.

    A call on a CUDA device lasts until the device is done; what the device itself takes is timed beside that, in a
    graph, and the bandwidth refers to it.

    An implementation that is unusable here or fails its gate gets a record with the reason and no time. `bytes_moved`
    is what the contract counts for the operation, whoever computes it.

    Args:
        op: an operation, or `step.OP`.
        peaks: bytes a second that `share_of_peak` refers to, by device.
    """
    facts = _facts(op, data)
    layers = _layers(op, data)
    contenders = [_contender(op, name, layers, threads, isa) for name in names]
    records = {one.name: _described(op, one, data, threads) | {"layers": len(layers)} for one in contenders}
    with torch_threads(threads):
        calls = {one.name: one.prepare() for one in contenders if one.gate == PASSED}
        on_card = {one.name for one in contenders if one.name in calls and one.device == "cuda"}
        timed = {name: waiting(call) if name in on_card else call for name, call in calls.items()}
        samples = interleaved_s(timed, seconds, wait_until_quiet) if timed else {}
        for name in on_card:
            records[name] |= device_times_us(calls[name], 1.0)
    for one in contenders:
        if one.name in samples:
            device_us = records[one.name].get("device_median_us")
            records[one.name] |= facts | _timed(samples[one.name], device_us, facts["bytes_moved"], peaks[one.device])
            records[one.name] |= _speedup(samples, one.name)
    return list(records.values())


def _contender(op: str, name: str, layers: list[LayerData], threads: int, isa: str) -> Contender:
    if name == magicpig.NAME:
        return magicpig.contender(op, layers[0], len(layers), threads)
    if name == hashing.NAME:
        return hashing.contender(layers[0])
    if op == step.OP:
        return step.contender(name, layers, threads, isa)
    return registered(op, name, layers, threads, isa)


def _layers(op: str, data: LayerData) -> list[LayerData]:
    if reads_samples(op):
        return step.layers_for(data)
    return scan_arguments.layers_for(data) if op == SCAN else [data]


def reads_samples(op: str) -> bool:
    """Whether what `op` reads depends on the queries."""
    return op == step.OP or op in READS_SAMPLES


def _facts(op: str, data: LayerData) -> dict[str, Any]:
    if reads_samples(op):
        return step.measured(data, (op,) if op in step.PARTS else step.PARTS)
    arguments = arguments_of(op, data)
    if op == SCAN:  # what it writes depends on what it draws
        registry.get(op)(**arguments)
    return {"bytes_moved": registry.contract(op).bytes_moved(arguments)}


def _described(op: str, one: Contender, data: LayerData, threads: int) -> dict[str, Any]:
    s = data.sizes
    return {
        "op": op, "impl": one.name, "threads": threads, "isa": one.isa, "context": s.context, "heads": s.heads,
        "kv_heads": s.kv_heads, "head_dim": s.head_dim, "K": s.K, "L": s.L, "min_hits": s.min_hits,
        "probing": s.probing.name, "batch": s.batch,
        "bits": s.bits, "wanted": s.wanted, "per_group": s.per_group,
        "seed": s.seed, "dtype": str(s.dtype).removeprefix("torch."),
        "gate": one.gate,
    }  # fmt: skip


def _timed(
    samples_s: list[float], device_us: float | None, bytes_moved: int, peak_bytes_per_s: float
) -> dict[str, Any]:
    times = quantiles_us(samples_s)
    bandwidth = bytes_moved / (device_us or times["median_us"]) * 1e6
    return {
        **times,
        "samples": len(samples_s),
        "bandwidth_bytes_per_s": bandwidth,
        "peak_bytes_per_s": peak_bytes_per_s,
        "share_of_peak": bandwidth / peak_bytes_per_s,
    }


def _speedup(samples: dict[str, list[float]], name: str) -> dict[str, float]:
    """MagicPIG's time over this one's: median of the rounds' ratios, with its 95% interval."""
    rival = next((known for known in RIVALS if known in samples), name)
    if rival == name:
        return {}
    ratios = np.array(samples[rival]) / np.array(samples[name])
    low, high = median_ci95(ratios)
    key = f"speedup_over_{rival}"
    return {key: float(np.median(ratios)), f"{key}_low": low, f"{key}_high": high}
