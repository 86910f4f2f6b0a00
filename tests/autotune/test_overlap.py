"""What hides behind what, against arithmetic done by hand and a replay of the pipeline's order of events."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.autotune.fakes import space
from truffle.autotune import cost_model
from truffle.autotune.overlap import LaneLayer, lane_sizes, layer_seconds, pause_seconds, step_time
from truffle.model.config import DecodeConfig, Execution, LshParameters
from truffle.model.shapes import SHAPES

LLAMA, CONTEXT = SHAPES["llama-3.1-8b"], 98_304


def lsh(batch: int = 1, micro_batches: int = 1) -> DecodeConfig:
    execution = Execution(batch_size=batch, micro_batches=micro_batches)  # type: ignore[arg-type]
    return DecodeConfig(parameters=LshParameters(), execution=execution)


@pytest.mark.parametrize(
    ("lanes", "seconds"),
    [
        ([(2, 1, 5)], 2 + 5),  # exact attention hides
        ([(2, 5, 1)], 2 + 5),  # the answer hides
        ([(2, 1, 5), (2, 1, 5)], 5 + 5),  # the host never rests, and the GPU's work hides
        ([(4, 1, 2), (4, 1, 2)], 5 + 5),  # the GPU never rests
        ([(3, 0, 1), (3, 0, 9)], 3 + 9),  # a lane waits for itself
    ],
)
def test_a_layers_time_is_that_of_whoever_has_most_to_do(lanes, seconds):
    assert layer_seconds([LaneLayer(*lane) for lane in lanes]) == seconds


def replayed(lanes: list[LaneLayer], layers: int) -> float:
    """Seconds a layer when every event waits for those that the pipeline has it wait for.

    The GPU does in turn what is launched; a lane's next part is launched by its answer, which waits for its question.
    """
    device = host = 0.0
    asked = []
    for lane in lanes:
        asked.append(device + lane.rest)
        device += lane.rest + lane.attend
    for _ in range(layers):
        for index, lane in enumerate(lanes):
            host = max(host, asked[index]) + lane.answer
            asked[index] = max(host, device) + lane.rest
            device = asked[index] + lane.attend
    return host / layers


@pytest.mark.parametrize("count", [1, 2])
def test_the_formula_is_what_the_order_of_events_comes_to(count):
    draw = random.Random(count).uniform
    for _ in range(200):
        lanes = [LaneLayer(draw(0, 3), draw(0, 1), draw(0, 4)) for _ in range(count)]
        assert replayed(lanes, 4000) == pytest.approx(layer_seconds(lanes), rel=0.01)


def test_the_batch_is_cut_as_the_pipeline_cuts_it():
    sizes = {(batch, parts): lane_sizes(lsh(batch, parts).execution) for batch in (1, 2, 5) for parts in (1, 2)}
    assert sizes == {(1, 1): [1], (1, 2): [1], (2, 1): [2], (2, 2): [1, 1], (5, 1): [5], (5, 2): [2, 3]}


def test_one_lane_hides_the_exact_attention_of_sampled_layers_and_nothing_else():
    gpu = space().target.gpu
    found = step_time(LLAMA, lsh(), CONTEXT, gpu, 1e-3, 2e-3)
    side = cost_model.gpu_side(LLAMA, lsh(), CONTEXT, gpu)
    exact_slots = 30 * ((4 + 64 + 512) * 4096 / (1.008e12 * 0.8) + 6 * gpu.kernel_latency_s.value)
    assert found.hidden == pytest.approx(exact_slots)
    assert (found.cpu_retrieve, found.cpu_attend) == pytest.approx((30e-3, 60e-3))
    assert found.total == pytest.approx(side.total + 90e-3 - exact_slots)


def test_two_lanes_read_the_weights_twice_and_hide_the_sampled_layers_share_of_the_gpu():
    gpu = space().target.gpu
    found = step_time(LLAMA, lsh(2, 2), CONTEXT, gpu, 1e-3, 2e-3)
    one = cost_model.gpu_side(LLAMA, lsh(), CONTEXT, gpu)
    layer = cost_model.sampled_layer(LLAMA, lsh(), CONTEXT, gpu)
    assert found.weights == pytest.approx(2 * one.weights)
    assert found.cpu_attend == pytest.approx(2 * 60e-3), "a lane of one request is timed, and there are two"
    assert found.hidden == pytest.approx(30 * 2 * layer.total), "the host is busy throughout: 6 ms a layer"
    assert found.total == pytest.approx(2 * one.total + 30 * 6e-3 - found.hidden)


def test_two_lanes_lose_where_the_host_has_little_to_do():
    gpu = space().target.gpu
    idle, busy = ([step_time(LLAMA, lsh(2, parts), CONTEXT, gpu, 0.0, 2 / parts * s).total for parts in (1, 2)]
                  for s in (1e-5, 5e-3))  # fmt: skip
    assert idle[1] > idle[0]
    assert busy[1] < busy[0]


def test_a_smaller_lane_takes_less_of_the_host():
    gpu = space().target.gpu
    found = step_time(LLAMA, lsh(3, 2), CONTEXT, gpu, 1e-3, 0.0)
    assert found.cpu_retrieve == pytest.approx(30 * 1.5e-3), "lanes of 1 and 2 requests, the larger one timed"
    small, large = (cost_model.sampled_layer(LLAMA, lsh(size), CONTEXT, gpu) for size in (1, 2))
    waits_for_itself = large.total - large.gpu_attend + 1e-3
    assert waits_for_itself > 1.5e-3, "more than the host has to do for both"
    assert found.hidden == pytest.approx(30 * (small.total + large.total + 1.5e-3 - waits_for_itself))


def test_a_sampled_layer_is_a_layers_share_of_the_gpus_side():
    gpu = space().target.gpu
    layer = cost_model.sampled_layer(LLAMA, lsh(), CONTEXT, gpu)
    weights = 4096 * 128 * (2 * 32 + 2 * 8) + 3 * 4096 * 14336 + 2 * 4096
    assert layer.weights == pytest.approx(2 * weights / (1.008e12 * 0.8))
    assert layer.launch == pytest.approx(9 * gpu.kernel_latency_s.value)
    side = cost_model.gpu_side(LLAMA, lsh(), CONTEXT, gpu)
    assert (30 * layer.link, 30 * layer.hash) == pytest.approx((side.link, side.hash))


def test_the_host_pauses_while_the_gpu_works_alone():
    gpu = space().target.gpu
    layer = cost_model.sampled_layer(LLAMA, lsh(2), CONTEXT, gpu)
    assert pause_seconds(LLAMA, lsh(2), CONTEXT, gpu) == pytest.approx(
        layer.weights + layer.launch + layer.hash + layer.link
    )
    assert pause_seconds(LLAMA, lsh(2, 2), CONTEXT, gpu) == 0.0


@pytest.mark.parametrize("file", ["decode_pipeline", "scaling_batch", "scaling_batch_two_lanes"])
def test_the_estimate_is_near_steps_that_were_measured(file):
    """An H200's steps beside 15 threads, given what their answers took: by one to six requests, in one lane and two."""
    gpu = space(gpu="h200").target.gpu
    evidence = Path(__file__).parents[2] / f"reports/results/h200/{file}.json"
    measured = [r for r in json.loads(evidence.read_text())["records"] if "layer_host_us" in r]
    assert measured
    for record in measured:
        execution = Execution(batch_size=record["batch"], micro_batches=record["micro_batches"])
        config = DecodeConfig(parameters=LshParameters(), execution=execution)
        found = step_time(LLAMA, config, CONTEXT, gpu, 0.0, record["layer_host_us"] * 1e-6)
        assert found.total == pytest.approx(record["median_us"] * 1e-6, rel=0.15), record["batch"]
