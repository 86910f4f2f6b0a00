"""Timing whole steps: what is built, what is told apart, and memory limits."""

from __future__ import annotations

import json

import pytest
import torch

from truffle.bench import synthetic, whole_step
from truffle.bench.__main__ import main
from truffle.bench.timeline import LayerSpans, breakdown, typical
from truffle.bench.vram import filled, parse_size, static_bytes
from truffle.bench.workloads import parse_workload
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig, DenseParameters, Execution, LshParameters, ModelShape, ScanParameters
from truffle.model.methods.sampled import SampledLayer
from truffle.model.shapes import SHAPES

SHAPE = ModelShape(layers=5, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=32, vocabulary=101)
FUSED = DecodeConfig(
    parameters=LshParameters(K=6, L=20, dense_layers=(0, 3), seal_tokens=64),
    implementations={"retrieve_attend": "auto"},
    execution=Execution(batch_size=2, store_format="float32"),
)
SCANNED = DecodeConfig(
    parameters=ScanParameters(budget=0.1, dense_layers=(0, 3), seal_tokens=64),
    execution=Execution(batch_size=2, store_format="float32", codes="device"),
)


@pytest.fixture
def workload(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", SHAPE)
    monkeypatch.setattr(whole_step, "layers_beyond_cache", lambda layer_bytes: 2)
    return parse_workload("tiny@1k")


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("config", [FUSED, SCANNED], ids=["fused", "scanned"])
def test_whole_steps_are_timed_and_taken_apart(workload, config, micro_batches):
    execution = config.execution.model_copy(update={"micro_batches": micro_batches})
    config = config.model_copy(update={"execution": execution})
    samples_us: list[float] = []
    record, timeline = whole_step.time_steps(workload, config, 4, "cpu", torch.float32, samples_us=samples_us)
    assert record["kind"] == "measured"
    assert len(samples_us) == 4
    assert min(samples_us) - 0.1 <= record["median_us"] <= max(samples_us) + 0.1
    assert (record["dense_layers"], record["sparse_layers"]) == (2, 3)
    assert 0.0 < record["density"] < 1.0
    assert record["layer_us"] >= record["layer_host_us"] > 0.0
    assert [row["lane"] for row in timeline] == [lane for lane in range(micro_batches) for _ in range(4)]
    assert timeline[0]["start_us"] == 0.0
    assert all(row["start_us"] < row["end_us"] for row in timeline)


@pytest.mark.parametrize(("steps", "timed"), [(9, 5), (3, 3)])
def test_a_slow_step_is_timed_a_few_times_only(workload, steps, timed):
    samples_us: list[float] = []
    record, _ = whole_step.time_steps(workload, FUSED, steps, "cpu", torch.float32, samples_us=samples_us, within_s=0.0)
    assert record["steps"] == len(samples_us) == timed


def test_keys_may_be_spread_so_that_tables_sample_a_given_share(workload):
    shares = []
    for share in (0.042, 0.09):
        spread = workload.sampling(share, FUSED.parameters)
        shares.append(whole_step.time_steps(spread, FUSED, 1, "cpu", torch.float32)[0]["density"])
    # Few keys under one draw of planes and queries; the two shares are a factor of two apart.
    assert 0.03 < shares[0] < 0.06 < shares[1] < 0.12
    with pytest.raises(ArgumentError, match="sampled: expected the method lsh"):
        workload.sampling(0.05, DenseParameters())


def test_scaling_times_every_batch_under_every_thread_count(workload, tmp_path, capsys):
    file = tmp_path / "scaling.json"
    command = (
        "scaling --workload tiny@600 --batch 1,2 --sweep-threads 1,3 --steps 1 --device cpu --method lsh --K 6 --L 20"
    )
    assert main([*command.split(), "--seal-tokens", "64", "--json", str(file)]) == 0
    records = json.loads(file.read_text())["records"]
    assert [(r["batch"], r["threads"]) for r in records] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert records[2]["sampled_layers_bytes"] == 2 * records[0]["sampled_layers_bytes"]
    assert "tokens/s" in capsys.readouterr().out


def test_a_dense_model_has_no_layers_to_take_apart(workload):
    record, timeline = whole_step.time_steps(
        workload, DecodeConfig(parameters=DenseParameters()), 2, "cpu", torch.float32
    )
    assert timeline == []
    assert record["density"] is None
    assert "layer_us" not in record


def test_layers_share_stores_but_not_exact_slots_nor_what_they_seal(workload):
    decoder = whole_step.filled_decoder(workload, FUSED, "cpu", *synthetic.material(workload, "cpu", torch.float32))
    layers = [cache for cache in decoder.caches if isinstance(cache, SampledLayer)]
    rows = [layer.stores[0].rows.data_ptr() for layer in layers]
    assert len(set(rows)) == 2
    lengths = layers[0].stores[0].length
    for step in range(70):
        decoder.step(torch.tensor([step, step + 1]))
    assert [layer.stores[0].length for layer in layers] == [lengths + 64] * 3
    assert len({layer.stores[0].rows.data_ptr() for layer in layers}) == 3


def test_calibrated_queries_sample_what_calibrated_keys_expect(workload):
    """Through RoPE at any position: the share sampled is the one that the paper's cosines give, within a fifth."""
    from truffle.bench.calibration import expected_fraction
    from truffle.bench.synthetic import COSINE_DEVIATION

    assert SHAPE.head_dim**-0.5 > COSINE_DEVIATION, "narrow heads spread less than they would on their own"
    record, _ = whole_step.time_steps(workload, FUSED, 1, "cpu", torch.float32)
    assert record["density"] == pytest.approx(expected_fraction(FUSED.parameters), rel=0.2)


def spans(layer: int, start: float, host: float) -> LayerSpans:
    before, answer = (start, start + 100), (start + 105, start + 105 + host)
    return LayerSpans(layer, before, (before[1], before[1] + 20), answer, (answer[1] + 7, answer[1] + 107))


def test_a_breakdown_adds_up():
    step = [spans(1, 0, 400), spans(2, 512, 400), spans(4, 2000, 300)]
    found = breakdown([step], weights_us=90.0)
    assert found["layer_us"] == 512
    assert (found["layer_host_us"], found["layer_weights_us"], found["layer_rest_us"]) == (400, 90, 22)
    assert (found["layer_arrival_us"], found["layer_launch_us"]) == (5, 7)
    assert (found["layer_gpu_before_us"], found["layer_gpu_beside_us"]) == (100, 20)
    assert typical(step).layer in (1, 2)


@pytest.mark.parametrize(
    ("text", "size"), [("24GiB", 24 * 2**30), ("24GB", 24 * 10**9), ("1.5GiB", 3 * 2**29), ("512MiB", 2**29)]
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["24", "GiB", "-1GiB", "0GiB", "24 GiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="vram_limit: expected a size such as 24GiB"):
        parse_size(text)


def test_a_limit_is_for_a_gpu(capsys):
    assert main(["decode", "--workload", "smollm2@2k", "--vram-limit", "24GiB"]) == 2
    assert "vram_limit: expected device cuda, got cpu" in capsys.readouterr().err


def test_static_parts_are_weights_and_exact_slots():
    shape, config = SHAPES["llama-3.1-8b"], DecodeConfig(parameters=LshParameters())
    dense = 2 * 98_304 * 8 * 128 * 2 * 2
    slots = 30 * (4 + 1024 + 64) * 8 * 128 * 2 * 2
    assert static_bytes(shape, config, 98_304) == shape.parameters * 2 + dense + slots


def test_stores_and_tables_that_reside_on_the_gpu_are_static_parts():
    there = {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
    shape, p = SHAPES["llama-3.1-8b"], LshParameters()
    configs = [DecodeConfig(parameters=p, implementations=named) for named in ({}, there)]
    host, resident = (static_bytes(shape, config, 98_304) for config in configs)
    rows = 98_304 - 4 - 64
    index = 8 * 150 * (2 * rows + 2 * 4 * 1025)  # two segments
    assert resident - host == 30 * (rows * 8 * 512 + index)


def test_codes_beside_rows_on_the_host_are_a_static_part():
    shape = SHAPES["llama-3.1-8b"]
    host, there = (
        static_bytes(shape, DecodeConfig(parameters=ScanParameters(), execution=Execution(codes=codes)), 98_304)
        for codes in ("host", "auto")
    )
    rows = 98_304 - 4 - 64
    blocks = -(-(rows + rows // 8) // 64)  # with room for an eighth more
    assert there - host == 30 * 8 * blocks * 64 * (128 // 2 + 2)


def test_what_is_left_of_a_limit_is_filled_with_dense_layers():
    shape, config = SHAPES["llama-3.1-8b"], DecodeConfig(parameters=LshParameters())
    own = static_bytes(shape, config, 98_304)
    layer = 2 * 8 * 128 * 2 * (98_304 - 4 - 64 - 1024)  # a dense layer's keys and values in place of a sampled one's
    assert filled(shape, config, 98_304, own + layer - 1) is config
    more = filled(shape, config, 98_304, own + 3 * layer)
    assert more.parameters.dense_layers == (0, 1, 2, 3, 16)
    assert static_bytes(shape, more, 98_304) == own + 3 * layer
    everything = filled(shape, config, 98_304, 10**12)
    assert everything.parameters.dense_layers == tuple(range(32))
    with pytest.raises(ArgumentError, match="fill_vram: expected the method lsh"):
        filled(shape, DecodeConfig(), 98_304, 10**12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workload", "tiny@600"], "fill_vram: expected a --vram-limit to fill, got None"),
        (["--model", "smollm2"], "fill_vram: expected a --workload, whose memory is known before, got smollm2"),
    ],
)
def test_what_cannot_be_filled_is_refused(workload, capsys, options, message):
    assert main(["decode", *options, "--method", "lsh", "--fill-vram"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.gpu
def test_a_limit_holds():
    from truffle.bench.vram import limit_vram
    from truffle.kernels.checks import ArgumentError

    with pytest.raises(ArgumentError, match="vram_limit: expected room for"):
        limit_vram(2 * 2**30, 3 * 2**30)
    try:
        limit_vram(2 * 2**30, 2**28)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2 * 2**30, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
