"""python -m truffle.bench and python -m truffle.model: what they print, write and refuse."""

from __future__ import annotations

import json

import pytest

from tests.model.tiny import save_tiny_llama
from truffle.bench.__main__ import main
from truffle.bench.records import read_records
from truffle.bench.workloads import WorkloadError, parse_workload
from truffle.kernels import registry
from truffle.kernels.registry import Implementation
from truffle.model.__main__ import main as model_main

SMALL = ["--context", "600", "--heads", "6", "--kv-heads", "2", "--head-dim", "64", "--K", "6", "--L", "20"]


def test_list_names_every_implementation(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["op"], row["impl"]) for row in rows} == {
        (op, name) for op in registry.ops() for name in registry.names(op)
    }
    assert all(row["usable"] or row["reason"] for row in rows)


def test_op_times_what_passed_its_gate(tmp_path, capsys):
    file = tmp_path / "op.json"
    options = [*SMALL, "--impl", "reference,cpu_numba", "--batch", "2", "--seconds", "0.05", "--json", str(file)]
    assert main(["op", "retrieve,sparse_attend", *options]) == 0
    frame = read_records(file)
    assert list(frame.op) == ["retrieve"] * 2 + ["sparse_attend"] * 2
    assert (frame.gate == "passed").all()
    assert (frame.median_us > 0).all()
    assert (frame.p20_us <= frame.median_us).all()
    assert "retrieve,sparse_attend" in frame.attrs["command"]
    assert "cpu_numba" in capsys.readouterr().out


def test_a_wrong_implementation_is_not_timed(monkeypatch, tmp_path):
    right = registry.get("retrieve", "cpu_numba")

    def wrong(tables, query_codes, ids, count, *, min_hits=2, threads=1, isa="auto"):
        right.function(tables, query_codes, ids, count, min_hits=min_hits)
        count -= 1

    broken = Implementation("retrieve", "cpu_numba", wrong, right.needs, right.refuses)
    monkeypatch.setitem(registry._registered, ("retrieve", "cpu_numba"), broken)
    file = tmp_path / "op.json"
    assert main(["op", "retrieve", *SMALL, "--impl", "cpu_numba", "--seconds", "0.05", "--json", str(file)]) == 0
    record = json.loads(file.read_text())["records"][0]
    assert record["gate"].startswith("failed: one_key: count differs")
    assert "median_us" not in record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["op", "nope"], "unknown operation 'nope'"),
        (["op", "retrieve", "--impl", "nope", *SMALL], "impl: expected one of reference"),
        (["op", "retrieve", "--K", "17"], "K: expected 1 to 16, got 17"),
        (["op", "retrieve", "--heads", "5", "--kv-heads", "2"], "heads: expected a multiple of kv_heads = 2, got 5"),
        (["op", "retrieve", "--threads", "0", *SMALL], "threads: expected at least 1, got 0"),
        (["decode", "--workload", "nope@1k"], "workload: expected MODEL@CONTEXT"),
        (["accuracy", "--K", "99"], "K: Input should be less than or equal to 16"),
        (["accuracy", "--method", "dense", "--K", "9"], "K: Extra inputs are not permitted"),
        (["accuracy", "--samples", "0"], "samples: expected at least 1, got 0"),
        (["accuracy", "--model", "nowhere"], "model: expected 'smollm2', a folder"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_and_exit_2(options, message, capsys):
    assert main(options) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_workloads_are_read_as_written():
    workload = parse_workload("llama-3.1-8b@96k")
    assert (workload.model, workload.context, workload.shape.layers) == ("llama-3.1-8b", 98_304, 32)
    assert parse_workload("smollm2@4000").context == 4000
    for text in ("llama-3.1-8b", "llama-3.1-8b@", "llama-3.1-8b@0", "llama@96k", "smollm2@9k"):
        with pytest.raises(WorkloadError):
            parse_workload(text)


def test_decode_scales_one_layer_of_each_kind(tmp_path):
    file = tmp_path / "decode.json"
    command = ["decode", "--workload", "smollm2@2k", "--method", "lsh", "--steps", "3", "--json", str(file)]
    assert main(command) == 0
    record = json.loads(file.read_text())["records"][0]
    total = record["dense_layers"] * record["dense_layer_us"] + record["sparse_layers"] * record["sparse_layer_us"]
    assert (record["dense_layers"], record["sparse_layers"]) == (2, 28)
    assert record["median_us"] == pytest.approx(total + record["head_us"])
    assert "scaled" in record["kind"]


def test_generate_refuses_in_one_line(tmp_path, capsys):
    save_tiny_llama(tmp_path / "model")
    common = ["generate", "--model", str(tmp_path / "model")]
    for options, message in [
        (["--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens: expected at least 1"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt"),
        (["--prompt", "x", "--temperature", "-1"], "temperature: expected at least 0"),
        (["--prompt", "x", "--method", "lsh", "--L", "0"], "L: Input should be greater than or equal to 1"),
        (["--prompt", "x", "--impl", "nope=cpu_numba"], "unknown operation 'nope'"),
    ]:
        assert model_main([*common, *options]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_generate_prints_text_speed_and_density(capsys):
    command = ["generate", "--prompt", "The capital of France is", "--max-new-tokens", "6"]
    assert model_main([*command, "--method", "lsh", "--window", "2", "--sink", "1", "--seal-tokens", "1"]) == 0
    printed = capsys.readouterr().out
    assert "tokens/s, density 0." in printed
    assert model_main([*command, "--json", "--prompt", "Two and two make"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["text"]) == 2
    assert "Paris" in found["text"][0]
    assert found["new_tokens"][0] <= 6
