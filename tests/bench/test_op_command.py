"""python -m truffle.bench op: what is timed, what is not, and what the records hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from truffle.bench.__main__ import main
from truffle.bench.records import read_records
from truffle.kernels import registry
from truffle.kernels.registry import Implementation

SMALL = ["--context", "600", "--heads", "6", "--kv-heads", "2", "--head-dim", "64", "--K", "6", "--L", "20"]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_op_times_what_passed_its_gate(dtype, tmp_path, capsys):
    file = tmp_path / "op.json"
    options = [*SMALL, "--impl", "reference,cpu_numba", "--batch", "2", "--seconds", "0.05", "--dtype", dtype]
    assert main(["op", "retrieve,sparse_attend", *options, "--json", str(file)]) == 0
    frame = read_records(file)
    assert list(frame.op) == ["retrieve"] * 2 + ["sparse_attend"] * 2
    assert (frame.gate == "passed").all()
    assert (frame.median_us > 0).all()
    assert (frame.p20_us <= frame.median_us).all()
    assert (frame.dtype == dtype).all()
    assert "retrieve,sparse_attend" in frame.attrs["command"]
    assert "cpu_numba" in capsys.readouterr().out


def test_op_takes_lists_of_threads_and_batches(tmp_path):
    file = tmp_path / "op.json"
    options = ["--impl", "cpu_numba,cpu_native", "--threads", "1,2", "--batch", "1,3", "--seconds", "0.05"]
    assert main(["op", "retrieve+sparse_attend", *SMALL, *options, "--json", str(file)]) == 0
    frame = read_records(file)
    assert (frame.gate == "passed").all()
    assert len(frame) == len(frame.drop_duplicates(["impl", "threads", "batch"])) == 8
    for _, same in frame.groupby("batch"):
        assert same.bytes_moved.nunique() == same.sampled_fraction.nunique() == 1
    assert frame.bytes_moved.nunique() == 2


def test_a_fused_operation_competes_with_the_two_it_replaces(tmp_path):
    file = tmp_path / "op.json"
    options = ["--impl", "cpu_native,cpu_native fused", "--seconds", "0.05", "--json", str(file)]
    assert main(["op", "retrieve+sparse_attend", *SMALL, *options]) == 0
    frame = read_records(file)
    assert list(frame.impl) == ["cpu_native", "cpu_native fused"]
    assert (frame.gate == "passed").all()
    assert frame.bytes_moved.nunique() == frame.samples.nunique() == 1


def test_probed_steps_read_more_and_say_so(tmp_path):
    found = {}
    for probing in ([], ["--ball", "1"], ["--directed", "4"]):
        file = tmp_path / f"{len(found)}.json"
        options = ["--impl", "cpu_native,cpu_native fused", "--seconds", "0.05", "--json", str(file)]
        assert main(["op", "retrieve+sparse_attend", *SMALL, *probing, *options]) == 0
        frame = read_records(file)
        assert (frame.gate == "passed").all()
        found[frame.probing[0]] = frame.sampled_fraction[0]
    assert list(found) == ["none", "ball 1", "directed 4"]
    assert found["none"] < min(found["ball 1"], found["directed 4"])


def test_probes_that_fail_their_gate_fail_the_step(tmp_path, monkeypatch):
    right = registry.get("direct_probes", "cpu_native")

    def wrong(margins, query_codes, log_u, *, min_hits=2, threads=1, isa="auto", pinning="none"):
        right.function(margins, query_codes, log_u, min_hits=min_hits)
        log_u -= 1.0

    monkeypatch.setitem(registry._registered, ("direct_probes", "cpu_native"), replace(right, function=wrong))
    file = tmp_path / "op.json"
    options = ["--impl", "cpu_native,cpu_native fused", "--directed", "4", "--seconds", "0.05", "--json", str(file)]
    assert main(["op", "retrieve+sparse_attend", *SMALL, *options]) == 0
    assert [gate.split(":")[0] for gate in read_records(file).gate] == ["failed", "failed"]


def test_a_wrong_implementation_is_not_timed(monkeypatch, tmp_path):
    right = registry.get("retrieve", "cpu_numba")

    def wrong(tables, query_codes, ids, count, *, min_hits=2, threads=1, isa="auto", pinning="none"):
        right.function(tables, query_codes, ids, count, min_hits=min_hits)
        count -= 1

    broken = Implementation("retrieve", "cpu_numba", wrong, right.needs, right.refuses)
    monkeypatch.setitem(registry._registered, ("retrieve", "cpu_numba"), broken)
    file = tmp_path / "op.json"
    assert main(["op", "retrieve", *SMALL, "--impl", "cpu_numba", "--seconds", "0.05", "--json", str(file)]) == 0
    record = json.loads(file.read_text())["records"][0]
    assert record["gate"].startswith("failed: one_key: count differs")
    assert "median_us" not in record


def test_native_threads_wait_as_asked_for_to_the_end(monkeypatch):
    """Laws and probes are made on the way, by operations of a config of their own."""
    waiting = pytest.importorskip(
        "truffle.kernels.waiting", reason="the native extension is not built", exc_type=ImportError
    )
    told = []
    monkeypatch.setattr(waiting.native, "spin_before_parking", told.append)
    sizes = ["--context", "300", "--heads", "2", "--kv-heads", "1", "--head-dim", "32", "--K", "3", "--L", "6"]
    assert main(["op", "retrieve+sparse_attend", *sizes, "--seconds", "0.01", "--wait-policy", "spin"]) == 0
    assert told == [waiting.SPIN_US["spin"]]
