"""python -m truffle.bench and python -m truffle.model: what they print, write and refuse."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.model.tiny import save_tiny_llama
from truffle.bench.__main__ import main
from truffle.bench.records import read_records
from truffle.bench.workloads import WorkloadError, parse_workload
from truffle.kernels import registry
from truffle.kernels.registry import Implementation
from truffle.model.__main__ import main as model_main
from truffle.model.weights import load

SMALL = ["--context", "600", "--heads", "6", "--kv-heads", "2", "--head-dim", "64", "--K", "6", "--L", "20"]


def test_list_names_every_implementation(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["op"], row["impl"]) for row in rows} == {
        (op, name) for op in registry.ops() for name in registry.names(op)
    }
    assert all(row["usable"] or row["reason"] for row in rows)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["op", "nope"], "unknown operation 'nope'"),
        (["op", "retrieve", "--impl", "nope", *SMALL], "impl: expected one of reference"),
        (["op", "retrieve", "--K", "17"], "K: expected 1 to 16, got 17"),
        (["op", "retrieve", "--heads", "5", "--kv-heads", "2"], "heads: expected a multiple of kv_heads = 2, got 5"),
        (["op", "retrieve", "--directed", "9", "--K", "3"], "directed: expected less than 2^K = 8, got 9"),
        (["op", "retrieve", "--threads", "0", *SMALL], "threads: expected at least 1, got 0"),
        (["op", "retrieve", "--batch", "2,0", *SMALL], "batch: expected at least 1, got 0"),
        (["decode", "--workload", "nope@1k"], "workload: expected MODEL@CONTEXT"),
        (["accuracy", "--K", "99"], "K: Input should be less than or equal to 16"),
        (["accuracy", "--method", "dense", "--K", "9"], "K: Extra inputs are not permitted"),
        (["accuracy", "--samples", "0"], "samples: expected at least 1, got 0"),
        (["accuracy", "--model", "nowhere"], "model: expected 'smollm2', a folder"),
        (["accuracy", "--temperature", "-3"], "temperature: expected at least 0, got -3.0"),
        (["accuracy", "--isa", "avx9000"], "isa: expected one of scalar"),
        (["op", "retrieve", "--isa", "avx9000", *SMALL], "isa: expected one of scalar"),
        (["accuracy", "--ball", "5"], "ball: expected 1 to 3 where kind is 'ball', got 5"),
        (["accuracy", "--ball", "-1"], "ball: Input should be greater than or equal to 0, got -1"),
        (["accuracy", "--ball", "2", "--K", "2"], "ball: expected less than K = 2, got 2"),
        (["accuracy", "--ball", "1", "--method", "streaming"], "ball: Extra inputs are not permitted"),
        (["accuracy", "--dense-layers", "a"], "dense_layers: expected layer numbers such as 0,16, got 'a'"),
        (["accuracy", "--dense-layers", "-1"], "dense_layers.0: Input should be greater than or equal to 0, got -1"),
        (["accuracy", "--min-hits", "3", "--L", "2"], "min_hits: expected at most L = 2, got 3"),
        (
            ["accuracy", "--method", "quest", "--budget", "1.5"],
            "budget: expected a count such as 128, or a fraction",
        ),
        (["accuracy", "--method", "quest", "--K", "3"], "K: Extra inputs are not permitted"),
        (["accuracy", "--method", "uniform", "--budget", "many"], "budget: expected a count such as 128"),
        (["accuracy", "--method", "vattention", "--bound", "x"], "bound: Input should be 'clt', 'bernstein' or 'hoeff"),
        (
            ["accuracy", "--method", "uniform", "--impl", "retrieve=reference"],
            "none of retrieve, which uniform",
        ),
        (
            ["accuracy", "--method", "priority", "--store-format", "int8"],
            "store_format: expected bfloat16",
        ),
        (["accuracy", "--budget", "0.1"], "budget: Extra inputs are not permitted"),
        (["decode", "--model", "smollm2", "--context", "0"], "context: expected at least 1, got 0"),
        (
            ["decode", "--model", "smollm2", "--context", "8180"],
            "context: expected at most 8172 tokens before 20 steps, got 8180",
        ),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line_and_exit_2(options, message, capsys):
    assert main(options) == 2
    assert message in the_error(capsys)


def the_error(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no CUDA device")
def test_a_device_that_is_not_here_is_refused(capsys):
    message = "device: expected cpu (no CUDA device is here), got cuda"
    for options in (["--model", "smollm2"], ["--workload", "smollm2@2k"]):
        assert main(["decode", *options, "--device", "cuda"]) == 2
        assert message in the_error(capsys)
    assert model_main(["generate", "--prompt", "x", "--device", "cuda"]) == 2
    assert message in the_error(capsys)


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


@pytest.mark.parametrize(
    "options",
    [
        ["oracle_topk", "--budget", "5"],
        ["oracle_topp", "--mass", "0.5"],
        ["quest", "--budget", "0.3", "--page-size", "2"],
        ["oracle_sampling", "--budget", "4", "--draws", "systematic"],
        ["uniform", "--budget", "0.2", "--seed", "3"],
        ["priority", "--budget", "0.2"],
        ["vattention", "--heavy", "lsh", "--K", "3", "--heavy-budget", "3", "--base-budget", "4", "--epsilon", "0.5"],
    ],
    ids=lambda options: options[0],
)
def test_every_method_generates(options, capsys):
    command = ["generate", "--prompt", "The capital of France is", "--max-new-tokens", "3", "--json"]
    assert model_main([*command, "--method", *options, "--window", "2", "--sink", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["method"] == options[0]


def test_reference_methods_are_timed_and_measured(tmp_path):
    file, command = tmp_path / "found.json", ["--method", "vattention", "--heavy-budget", "3", "--epsilon", "0.5"]
    assert main(["decode", "--workload", "smollm2@1k", "--steps", "1", *command, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["records"][0]["method"] == "vattention"
    few = ["--context", "100", "--samples", "1", "--steps", "2", "--json", str(file)]
    assert main(["accuracy", *few, *command]) == 0
    record = json.loads(file.read_text())["records"][0]
    assert 0 < record["density"] < 1
    assert record["output_error"] > 0


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A folder with random weights made for 16 positions, and SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("small") / "model"
    tokenizer = load("smollm2").tokenizer()
    save_tiny_llama(folder, vocab_size=len(tokenizer), max_position_embeddings=16)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens: expected at least 1"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt"),
        (["--prompt", "x", "--temperature", "-1"], "temperature: expected at least 0"),
        (["--prompt", "x", "--L", "0"], "L: Input should be greater than or equal to 1"),
        (["--prompt", "x", "--impl", "nope=cpu_numba"], "unknown operation 'nope'"),
        (["--prompt", "x", "--isa", "avx9000"], "isa: expected one of scalar"),
        (["--prompt", "x", "--dense-layers", "0,a"], "dense_layers: expected layer numbers such as 0,16, got '0,a'"),
        (["--prompt", "x", "--ball", "1", "--K", "1"], "ball: expected less than K = 1, got 1"),
        (["--prompt", " a" * 16], "prompt: expected at most 15 tokens, got 16"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_generate_refuses_in_one_line(small_model, options, message, capsys):
    assert model_main(["generate", "--model", str(small_model), *options]) == 2
    assert message in the_error(capsys)


def test_generate_names_what_is_broken_on_disk(small_model, tmp_path, capsys):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("café".encode("latin-1"))
    assert model_main(["generate", "--model", str(small_model), "--prompt-file", str(latin)]) == 2
    assert f"{latin}: expected UTF-8 text, got unexpected end of data at byte 3" in the_error(capsys)
    save_tiny_llama(tmp_path / "model")
    capsys.readouterr()  # transformers says that it saves
    assert model_main(["generate", "--model", str(tmp_path / "model"), "--prompt", "x"]) == 2
    assert f"{tmp_path / 'model'}: expected a tokenizer that transformers can read" in the_error(capsys)


def test_generate_warns_once_beyond_the_models_positions(small_model, capsys):
    command = ["generate", "--model", str(small_model), "--prompt", " a" * 10, "--ignore-end", "--max-new-tokens"]
    assert model_main([*command, "6"]) == 0
    assert capsys.readouterr().err == ""
    assert model_main([*command, "7"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: 10 prompt tokens and 7 new ones go beyond the 16 positions that the model was made for"]


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
