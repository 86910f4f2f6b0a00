"""python -m truffle.bench and truffle.model: what they print, write and refuse; `op` and `generate` apart."""

from __future__ import annotations

import json

import pytest
import torch

from tests.bench.test_op_command import SMALL
from tests.refused import the_error
from truffle.bench.__main__ import main
from truffle.bench.workloads import WorkloadError, parse_workload
from truffle.kernels import registry
from truffle.model.__main__ import main as model_main


def test_list_names_every_implementation(capsys):
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["op"], row["impl"]) for row in rows} == {
        (op, name) for op in registry.ops() for name in registry.names(op)
    }
    assert all(row["usable"] or row["reason"] for row in rows)


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
            ["decode", "--workload", "smollm2@1k", "--engine", "transformers"],
            "engine: expected reference for a --workload, got transformers",
        ),
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


def test_transformers_is_timed_beside_the_reference_decoder(tmp_path):
    file = tmp_path / "decode.json"
    command = ["--engine", "transformers", "--method", "lsh", "--seal-tokens", "16", "--context", "200", "--steps", "5"]
    assert main(["decode", "--model", "smollm2", *command, "--json", str(file)]) == 0
    record = json.loads(file.read_text())["records"][0]
    assert record["engine"] == "transformers"
    assert 0 < record["over_reference_low"] <= record["over_reference"] <= record["over_reference_high"]
    assert 0 < record["density"] < 1


def test_decode_scales_one_layer_of_each_kind(tmp_path):
    file = tmp_path / "decode.json"
    command = ["decode", "--workload", "smollm2@2k", "--method", "lsh", "--steps", "3", "--json", str(file)]
    assert main(command) == 0
    record = json.loads(file.read_text())["records"][0]
    total = record["dense_layers"] * record["dense_layer_us"] + record["sparse_layers"] * record["sparse_layer_us"]
    assert (record["dense_layers"], record["sparse_layers"]) == (2, 28)
    assert record["median_us"] == pytest.approx(total + record["head_us"])
    assert "scaled" in record["kind"]


def test_reference_methods_are_timed_and_measured(tmp_path):
    file, command = tmp_path / "found.json", ["--method", "vattention", "--heavy-budget", "3", "--epsilon", "0.5"]
    assert main(["decode", "--workload", "smollm2@1k", "--steps", "1", *command, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["records"][0]["method"] == "vattention"
    few = ["--context", "100", "--samples", "1", "--steps", "2", "--json", str(file)]
    assert main(["accuracy", *few, *command]) == 0
    record = json.loads(file.read_text())["records"][0]
    assert 0 < record["density"] < 1
    assert record["output_error"] > 0
