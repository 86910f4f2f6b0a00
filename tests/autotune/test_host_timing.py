"""What the host timer times is what the config asks for."""

from __future__ import annotations

import pytest
import torch

from truffle.autotune import host_timing, reference_timing
from truffle.autotune.host_timing import HostTimer
from truffle.bench.timing import sequence_s
from truffle.bench.workloads import parse_workload
from truffle.kernels.quantise import as_stored
from truffle.model.config import DecodeConfig, Execution, LshParameters, Probing
from truffle.model.methods.selecting import SelectingLayer


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


def test_layers_are_timed_as_their_threads_wait_and_after_a_pause(monkeypatch):
    policies, pauses, sequence_s = [], [], host_timing.sequence_s

    def watched(calls, pause_s, seconds):
        pauses.append((policies[-1], pause_s))
        return sequence_s(calls, pause_s, seconds)

    monkeypatch.setattr("truffle.autotune.host_timing.layers_beyond_cache", lambda memory_bytes: 1)
    monkeypatch.setattr(host_timing, "sequence_s", watched)
    monkeypatch.setattr(host_timing, "set_wait_policy", policies.append)
    timer = HostTimer(parse_workload("smollm2@1k"), threads=1, seed=0)
    for policy, pause_s in (("spin", 1e-5), ("park", 0.0)):
        config = DecodeConfig(parameters=LshParameters(K=6, L=20), execution=Execution(wait_policy=policy))
        timer.measure(config, threads=1, pause_s=pause_s, seconds=0.01)
    assert pauses == [("spin", 1e-5), ("park", 0.0)]


def test_a_sequence_is_timed_behind_its_pauses_only(monkeypatch):
    """On a clock that goes on by a second with every look, and by ten with every call."""
    now = [0.0]

    def look():
        now[0] += 1.0
        return now[0]

    def call():
        now[0] += 10.0

    monkeypatch.setattr("truffle.bench.timing.time.perf_counter", look)
    order = []
    calls = {name: lambda name=name: (order.append((name, now[0])), call()) for name in ("retrieve", "sparse_attend")}
    samples = sequence_s(calls, pause_s=100.0, seconds=1000.0, min_rounds=1)
    assert set(samples["retrieve"]) == set(samples["sparse_attend"]) == {11.0}
    assert [name for name, _ in order[:4]] == ["retrieve", "sparse_attend"] * 2
    assert order[2][1] - order[1][1] >= 110.0, "a pause before each round"
    assert order[1][1] - order[0][1] < 20.0, "none within it"


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


def test_a_reference_method_is_timed_as_it_runs_one_request_at_a_time(monkeypatch):
    monkeypatch.setattr("truffle.autotune.reference_timing.layers_beyond_cache", lambda nbytes: 2)
    ran, decode = [], SelectingLayer.decode
    threads = torch.get_num_threads()

    def watched(layer, q, keys, values):
        ran.append((layer, tuple(q.shape), layer._cache.lengths[0]))
        return decode(layer, q, keys, values)

    monkeypatch.setattr(SelectingLayer, "decode", watched)
    monkeypatch.setattr(reference_timing, "sequence_s", lambda calls, *_: {"step": [calls["step"]() or 2.0] * 6})
    timer = HostTimer(parse_workload("smollm2@1k"), threads=1, seed=0)
    for method, share in (("quest", 0.05), ("uniform", 0.05), ("vattention", None), ("oracle_topp", None)):
        config = DecodeConfig(method=method, execution=Execution(batch_size=3, isa="avx512", threads=8))
        found = timer.measure(config, threads=1, seconds=0.01)
        assert (found.retrieve_s, found.attend_s, found.total_ci95_s) == (0.0, 6.0, (6.0, 6.0))
        assert found.sampled_fraction == pytest.approx(share, abs=0.01) if share else 0 < found.sampled_fraction < 1
    assert {(shape, length) for _, shape, length in ran} == {((1, 9, 64), 1024)}
    torch.set_num_threads(threads)
