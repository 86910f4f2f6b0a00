"""What the host timer times is what the config asks for."""

from __future__ import annotations

import torch

from truffle.autotune import host_timing
from truffle.autotune.host_timing import HostTimer
from truffle.bench.workloads import parse_workload
from truffle.kernels.quantise import as_stored
from truffle.model.config import DecodeConfig, Execution, LshParameters, Probing


def test_each_store_format_is_timed_on_rows_and_tables_of_its_own(monkeypatch):
    monkeypatch.setattr("truffle.autotune.host_timing.layers_beyond_cache", lambda memory_bytes: 1)
    timer = HostTimer(parse_workload("smollm2@1k"), threads=1, seed=0)
    held = {}
    for store_format in ("bfloat16", "int8", "bfloat16"):
        config = DecodeConfig(
            parameters=LshParameters(K=6, L=20),
            execution=Execution(store_format=store_format),
        )
        timed = timer.measure(config, threads=1, seconds=0.01)
        assert timed.attend_s > 0
        held[store_format] = timer._tables
        assert timer._tables.store.rows.dtype == getattr(torch, store_format)
    keys, _ = held["bfloat16"].keys_and_values
    assert torch.equal(held["int8"].keys_and_values[0], keys)
    assert torch.equal(held["int8"].store.keys, as_stored(keys, torch.int8))
    assert not torch.equal(held["int8"].segments[0].ids.int(), held["bfloat16"].segments[0].ids.int())


def test_probing_and_the_fused_operation_are_timed_as_configured(monkeypatch):
    monkeypatch.setattr("truffle.autotune.host_timing.layers_beyond_cache", lambda memory_bytes: 1)
    timed, sequence_s = [], host_timing.sequence_s

    def watched(calls, pause_s, seconds):
        timed.append(tuple(calls))
        return sequence_s(calls, pause_s, seconds)

    monkeypatch.setattr(host_timing, "sequence_s", watched)
    timer, fractions = HostTimer(parse_workload("smollm2@1k"), threads=1, seed=0), []
    for probing, fused in (("none", False), ("ball 1", True), ("directed 16", False), ("directed 16", True)):
        config = DecodeConfig(
            parameters=LshParameters(K=6, L=20, probing=Probing.named(probing)),
            implementations={"retrieve_attend": "auto"} if fused else {},
        )
        found = timer.measure(config, threads=1, seconds=0.01)
        assert found.attend_s > 0
        assert (found.retrieve_s > 0) == (len(timed[-1]) > 1)
        fractions.append(found.sampled_fraction)
    assert timed == [
        ("retrieve", "sparse_attend"),
        ("retrieve_attend",),
        ("direct_probes", "retrieve", "sparse_attend"),
        ("direct_probes", "retrieve_attend"),
    ]
    assert fractions[0] < fractions[1] < fractions[2] == fractions[3]
