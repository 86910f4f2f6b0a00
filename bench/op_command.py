"""What `python -m truffle.bench op` does: a record an implementation, operation, thread count and batch."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from truffle.bench.tables import operation_table, show
from truffle.kernels.checks import expect
from truffle.model.arguments import lsh_parameters

if TYPE_CHECKING:
    from truffle.bench.bandwidth import HostRates


def time_ops(arguments: argparse.Namespace) -> None:
    """Time the implementations of each operation named, interleaved, after their gates."""
    from truffle.bench import device_bandwidth
    from truffle.bench.operation import time_operation
    from truffle.bench.records import write_records
    from truffle.kernels import isa
    from truffle.kernels.waiting import set_wait_policy

    a = arguments
    _require_sizes(a)
    isa.resolve(a.isa)
    set_wait_policy(a.wait_policy)
    wanted = {op: _chosen(op, a.impl) for op in a.ops.split(",")}
    card = device_bandwidth.measure(1.0)
    on_card = {"cuda": card.memory_copy_bytes_per_s.p50} if card else {}
    data, records = _layer(a), []
    for batch in a.batch:
        data = data.with_tables(a.K, a.L, a.min_hits, batch, data.sizes.probing)
        for threads in a.threads:
            for op, names in wanted.items():
                print(f"{op}: gate, then {a.seconds:g} s of interleaved calls", file=sys.stderr)
                peaks = on_card | {"cpu": peak_bytes_per_s(op, threads)}
                timed = time_operation(op, names, data, threads, a.isa, a.seconds, peaks)
                records += [{**record, "wait_policy": a.wait_policy} for record in timed]
    show(operation_table(records))
    if a.json:
        write_records(a.json, records, a.command_line)


def numbers(text: str) -> tuple[int, ...]:
    """``1,2,4`` as numbers."""
    return tuple(int(part) for part in text.split(","))


def _chosen(op: str, impl: str | None) -> tuple[str, ...]:
    """Implementations to time: those asked for, or all that run here, the reference only for want of others."""
    from truffle.bench.operation import names

    known = names(op)
    if impl is None:
        usable = [name for name, reason in known.items() if reason is None and not name.startswith("reference")]
        return tuple(usable or ["reference"])
    for name in impl.split(","):
        expect(name in known, "impl", f"one of {', '.join(known)}", name)
    return tuple(impl.split(","))


def _layer(a: argparse.Namespace) -> Any:
    import torch

    from truffle.bench.calibration import deviation_for
    from truffle.bench.layer_data import LayerData
    from truffle.bench.sizes import Sizes
    from truffle.kernels import hardware

    dtype = getattr(torch, a.dtype)
    p = lsh_parameters(a, K=a.K, L=a.L, min_hits=a.min_hits)
    sizes = Sizes(a.context, a.heads, a.kv_heads, a.head_dim, p.K, p.L, p.min_hits, a.batch[0], a.seed, dtype)
    deviation = deviation_for(p, a.sampled, a.head_dim) if a.sampled is not None else sizes.deviation
    return LayerData(
        replace(sizes, probing=p.probing, deviation=deviation, bits=a.bits, wanted=a.wanted, per_group=not a.per_head),
        min(max(a.threads), hardware.detect().cpu.usable_cpus),
    )


def peak_bytes_per_s(op: str, threads: int) -> float:
    """What memory gives `threads` threads: scattered rows to what reads samples, a stream to the rest."""
    from truffle.bench.operation import reads_samples

    rates = host_rates(threads)
    return (rates.gather_512_bytes_per_s if reads_samples(op) else rates.read_bytes_per_s).p50


@cache
def host_rates(threads: int) -> HostRates:
    """What memory gives so many threads."""
    from truffle.bench import bandwidth
    from truffle.kernels import hardware

    here = hardware.detect()
    buffer = bandwidth.buffer_size(here.cpu.last_level_cache_bytes, here.memory_limit_bytes)
    return bandwidth.host_rates(min(threads, here.cpu.usable_cpus), buffer, 2.0)


def _require_sizes(a: argparse.Namespace) -> None:
    for name in ("context", "heads", "kv_heads", "head_dim", "L"):
        expect(getattr(a, name) >= 1, name, "at least 1", getattr(a, name))
    for name in ("batch", "threads"):
        expect(min(getattr(a, name)) >= 1, name, "at least 1", min(getattr(a, name)))
    expect(0 <= a.wanted <= 1, "wanted", "a share of the keys, 0 to 1", a.wanted)
    expect(1 <= a.K <= 16, "K", "1 to 16", a.K)
    expect(1 <= a.min_hits <= a.L, "min_hits", f"1 to L = {a.L}", a.min_hits)
    expect(a.heads % a.kv_heads == 0, "heads", f"a multiple of kv_heads = {a.kv_heads}", a.heads)
