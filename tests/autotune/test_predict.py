"""Steps put together from a card's profile and kernel times that are made up."""

from __future__ import annotations

import pytest

from tests.autotune.test_host_model import made
from truffle.autotune import cost_model, gpu_sampling, overlap
from truffle.autotune.host_model import HostKernels
from truffle.autotune.predict import Machine, step_time
from truffle.bench import host_work
from truffle.kernels import profiles
from truffle.kernels.checks import ArgumentError
from truffle.model.config import (
    DecodeConfig,
    Execution,
    LshParameters,
    OracleTopKParameters,
    Probing,
    ScanParameters,
    StreamingParameters,
)
from truffle.model.shapes import SHAPES

LLAMA, CONTEXT = SHAPES["llama-3.1-8b"], 98_304
KERNELS = HostKernels(
    [
        made("retrieve", 1e-3, entries=1e6),
        made("sparse_attend", 2e-3, bytes=1e7),
        made("sparse_attend", 1e-3, store_format="int8", bytes=1e7),
        made("attend_lists", 1e-3, bytes=1e7),
        made("scan_sample", 4e-3, bytes=1e8),
        made("direct_probes", 5e-4, buckets=1e5),
        made("dense_attend", 1e-2, bytes=1e8),
        made("linear", 1e-2, bytes=1e8),
        *(made(f"layer_{method}", seconds) for method, seconds in (("dense", 1e-4), ("lsh", 3e-4), ("scan", 2e-4))),
    ]
)
ON_H200 = Machine(profiles.load("h200"), KERNELS)
ON_CPU = Machine(None, KERNELS)


def config(parameters, **execution) -> DecodeConfig:
    return DecodeConfig(parameters=parameters, execution=Execution(**execution))


def test_the_host_answers_by_its_kernels_and_the_card_does_the_rest():
    p = LshParameters()
    found = step_time(LLAMA, config(p), CONTEXT, ON_H200)
    finds = 1e-9 * host_work.retrieve(LLAMA, p, CONTEXT, 1)["entries"]
    attends = 2e-10 * host_work.attend(LLAMA, p, CONTEXT, 1, "bfloat16")["bytes"]
    assert vars(found) == pytest.approx(vars(overlap.step_time(LLAMA, config(p), CONTEXT, ON_H200.gpu, finds, attends)))
    assert found.cpu_retrieve == pytest.approx(30 * finds)


def test_a_half_batch_is_answered_at_a_time():
    half = step_time(LLAMA, config(LshParameters(), batch_size=2), CONTEXT, ON_H200)
    lanes = step_time(LLAMA, config(LshParameters(), batch_size=4, micro_batches=2), CONTEXT, ON_H200)
    assert lanes.cpu_retrieve == pytest.approx(2 * half.cpu_retrieve)


def test_keys_of_other_spread_are_sampled_more_often():
    usual, wide = (step_time(LLAMA, config(LshParameters()), CONTEXT, ON_H200, sigma) for sigma in (None, 0.12))
    assert wide.cpu_attend > 1.1 * usual.cpu_attend


def test_a_scan_is_the_cards_or_the_hosts():
    scan = ScanParameters()
    there, here = (step_time(LLAMA, config(scan, codes=codes), CONTEXT, ON_H200) for codes in ("device", "host"))
    assert there.cpu_retrieve == here.gpu_retrieve == 0.0
    assert here.cpu_retrieve == pytest.approx(30 * 4e-11 * 8 * CONTEXT * 66)
    assert there.cpu_attend == here.cpu_attend == pytest.approx(30 * 1e-10 * 8 * max(scan.expected(CONTEXT)) * 512)


def test_rows_that_the_card_gathers_cross_the_link():
    found = step_time(LLAMA, config(ScanParameters(), gather="link"), CONTEXT, Machine(ON_H200.gpu, None))
    rows = 8 * max(ScanParameters().expected(CONTEXT)) * 512
    assert found.link == pytest.approx(30 * rows / cost_model.link_bandwidth(ON_H200.gpu))
    assert found.gpu_retrieve > 0
    assert found.gpu_sample == found.cpu_attend == found.hidden == 0.0


def test_what_asks_nothing_of_the_host_needs_no_host():
    alone = Machine(ON_H200.gpu, None)
    for parameters in (StreamingParameters(), DecodeConfig(method="dense").parameters):
        found = step_time(LLAMA, config(parameters), CONTEXT, alone)
        assert found == cost_model.gpu_side(LLAMA, config(parameters), CONTEXT, alone.gpu)
    resident = DecodeConfig(
        parameters=LshParameters(), implementations={"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}
    )
    found = step_time(LLAMA, resident, CONTEXT, alone)
    assert found == gpu_sampling.step_time(LLAMA, resident, CONTEXT, alone.gpu)
    with pytest.raises(ArgumentError, match="host: expected a calibrated one"):
        step_time(LLAMA, config(LshParameters()), CONTEXT, alone)


def test_on_a_cpu_one_thing_comes_after_another():
    dense = step_time(LLAMA, DecodeConfig(method="dense"), CONTEXT, ON_CPU)
    read = LLAMA.parameters - LLAMA.vocabulary * LLAMA.hidden
    assert dense.weights == pytest.approx(2 * read * 1e-10, rel=1e-4)  # the last norm is not counted
    assert dense.cpu_attend == pytest.approx(32 * CONTEXT * 4096 * 1e-10)
    assert dense.launch == pytest.approx(32 * 1e-4)
    lsh = step_time(LLAMA, config(LshParameters()), CONTEXT, ON_CPU)
    assert lsh.launch == pytest.approx(2 * 1e-4 + 30 * 3e-4)
    assert lsh.total == pytest.approx(lsh.weights + lsh.launch + lsh.cpu_retrieve + lsh.cpu_attend)


def test_directed_probes_are_chosen_first():
    near = LshParameters(K=10, L=60, probing=Probing(kind="directed", amount=8))
    found = step_time(LLAMA, config(near), CONTEXT, ON_CPU)
    walked = 1e-9 * host_work.retrieve(LLAMA, near, CONTEXT, 1)["entries"]
    assert found.cpu_retrieve == pytest.approx(30 * (walked + 5e-9 * 32 * 60 * 8))


def test_eight_bits_and_batches_are_work():
    one, four = (step_time(LLAMA, config(LshParameters(), batch_size=size), CONTEXT, ON_CPU) for size in (1, 4))
    assert four.cpu_attend == pytest.approx(4 * one.cpu_attend, rel=0.01)
    eight = step_time(LLAMA, config(LshParameters(), store_format="int8"), CONTEXT, ON_CPU)
    assert eight.cpu_attend < one.cpu_attend


def test_a_reference_method_is_no_business_of_kernels():
    with pytest.raises(ArgumentError, match="method: expected one with kernels: dense, streaming, lsh or scan"):
        step_time(LLAMA, config(OracleTopKParameters()), CONTEXT, ON_CPU)
    with pytest.raises(ArgumentError, match="method: expected one with kernels"):
        step_time(LLAMA, config(ScanParameters(epsilon=0.1, delta=0.1)), CONTEXT, ON_CPU)
