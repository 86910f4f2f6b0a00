"""Timing a prefill: what is compared, what a layer's record adds up to, and what is refused."""

from __future__ import annotations

import pytest
import torch

from truffle.bench import prefill
from truffle.bench.__main__ import main
from truffle.bench.prefill_trace import trace_prefill
from truffle.bench.records import read_records
from truffle.bench.workloads import Workload
from truffle.model import llama
from truffle.model.background import Background
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, ModelShape
from truffle.model.llama import Decoder
from truffle.model.methods.sampled import SampledLayer
from truffle.model.shapes import SHAPES
from truffle.model.weights import random_weights

SHAPE = ModelShape(layers=4, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=32, vocabulary=101)
LSH = DecodeConfig(parameters=LshParameters(K=6, L=20, dense_layers=(0, 2), seal_tokens=64))
RESIDENT = DecodeConfig(
    parameters=LSH.parameters, implementations={"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
)
MIDDLE = 600 - 4 - 64
HOST_PARTS = ("link_us", "store_us", "tables_us", "rest_us")


@pytest.fixture
def workload(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", SHAPE)
    return Workload("tiny@600", "tiny", 600)


@pytest.mark.parametrize("threaded", [False, True])
def test_layers_add_up_and_say_what_they_copied(threaded, monkeypatch):
    if threaded:
        monkeypatch.setattr(llama, "beside", lambda device: Background())
    decoder = Decoder(SHAPE, random_weights(SHAPE), LSH)
    layers, tail_us = trace_prefill(decoder, torch.arange(600) % 101)
    assert [layer["layer"] for layer in layers] == [0, 1, 2, 3]
    assert ["host_us" in layer for layer in layers] == [False, True, False, True]
    assert tail_us >= 0.0
    for layer in layers:
        assert layer["forward_us"] > 0.0
    for layer in (layers[1], layers[3]):
        assert layer["hash_us"] > 0.0
        assert layer["tables_us"] > 0.0
        assert sum(layer[part] for part in HOST_PARTS) == pytest.approx(layer["host_us"])
        rows, codes = 2 * MIDDLE * 2 * 32 * 2, 2 * 20 * MIDDLE * 2  # bfloat16 keys and values; 16-bit codes
        assert layer["bytes_to_host"] == rows + codes


def test_the_rival_stores_rows_and_makes_no_tables():
    decoder = Decoder(SHAPE, random_weights(SHAPE), LSH)
    prefill._leave_out_tables(decoder)

    def refused(*args, **kwargs):
        raise AssertionError("called")

    decoder.ops.hash_codes = decoder.ops.build_tables = refused
    decoder.prefill([torch.arange(600) % 101])
    layers = [cache for cache in decoder.caches if isinstance(cache, SampledLayer)]
    assert [layer.stores[0].length for layer in layers] == [MIDDLE] * 2
    assert all(layer.selector.memory_bytes == 0 for layer in layers)


def test_a_record_compares_medians(workload, tmp_path):
    file = tmp_path / "prefill.json"
    options = ["--K", "6", "--L", "20", "--dense-layers", "0", "--seal-tokens", "64", "--layers", "2"]
    command = ["prefill", "--workload", "tiny@600", *options, "--rounds", "2", "--device", "cpu", "--json", str(file)]
    assert main(command) == 0
    frame = read_records(file)
    assert list(frame.op) == ["prefill", "prefill_layer", "prefill_layer"]
    record = frame.iloc[0]
    assert record.overhead_percent == pytest.approx(100 * (record.ttft_s / record.ttft_without_tables_s - 1))
    assert record.overhead_percent_low <= record.overhead_percent_high
    assert (record.layers, record.dense_layers, record.sparse_layers, record.context) == (2, 1, 1, 600)
    assert record.layer_tables_us == frame.iloc[2].tables_us


@pytest.mark.parametrize(
    ("config", "layers", "message"),
    [
        (DecodeConfig(parameters=DenseParameters()), None, "method: expected lsh"),
        (LSH, 0, "layers: expected 1 to 4, got 0"),
        (LSH, 5, "layers: expected 1 to 4, got 5"),
        (LSH, 1, "layers: expected one at least that is not dense"),
        (RESIDENT, None, "implementations: expected tables on the host"),
    ],
)
def test_what_has_no_tables_to_time_is_refused(workload, config, layers, message):
    with pytest.raises(ValueError, match=message):
        prefill.built_shape(workload, config, layers)


def test_transfers_are_listed_by_batch(workload, tmp_path):
    file = tmp_path / "transfers.json"
    options = ["--K", "6", "--L", "20", "--dense-layers", "0", "--seal-tokens", "64", "--store-format", "float32"]
    command = ["transfers", "--workload", "tiny@600", "--batch", "1,3", "--steps", "1", "--device", "cpu"]
    assert main([*command, *options, "--json", str(file)]) == 0
    frame = read_records(file)
    assert list(frame.batch) == [1, 3]
    answers = [3 * batch * 4 * (32 + 1) * 4 for batch in (1, 3)]  # of 3 layers: out and lse of 4 heads in float32
    assert list(frame.to_device_bytes) == answers
    assert (frame.to_host_bytes >= [3 * batch * 4 * (32 * 2 + 20 * 2) for batch in (1, 3)]).all(), "q and codes"
