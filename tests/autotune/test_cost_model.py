"""Memory and time against arithmetic done by hand."""

from __future__ import annotations

import re

import pytest

from tests.autotune.fakes import space
from truffle.autotune import cost_model
from truffle.autotune.memory import does_not_fit, memory
from truffle.bench.calibration import expected_fraction
from truffle.kernels.store import empty_segment, row_bytes, row_width
from truffle.model.config import DecodeConfig, Execution, LshParameters, Probing, ScanParameters
from truffle.model.shapes import SHAPES

LLAMA = SHAPES["llama-3.1-8b"]
DEFAULT = DecodeConfig(parameters=LshParameters())


def test_memory_of_the_default_at_96k():
    found = memory(LLAMA, DEFAULT, 98_304, has_gpu=True)
    middle, sparse = 98_304 - 68, 30
    ids, offsets = 8 * 150 * 2 * middle, 8 * 150 * 2 * 4 * 1025
    assert found.index_bytes == sparse * (ids + offsets)
    assert found.host_bytes == found.index_bytes + sparse * 8 * middle * 512
    assert found.gpu_bytes == 2 * 8_030_261_248 + 2 * 98_304 * 4096 + sparse * 1092 * 4096


def test_memory_is_what_the_store_and_tables_take():
    import torch

    for d in (64, 80, 128):
        assert row_bytes(d, torch.bfloat16) == 2 * row_width(d, torch.bfloat16)
    segment = empty_segment(0, 8, K=10, L=150, length=5000)
    p = LshParameters()
    needed = memory(
        LLAMA.model_copy(update={"layers": 1}),
        DecodeConfig(parameters=p.model_copy(update={"dense_layers": ()})),
        5068,
        True,
    )
    assert needed.index_bytes == segment.memory_bytes


def test_eight_bits_halve_the_store_and_raise_the_bound():
    eight = DEFAULT.model_copy(update={"execution": Execution(store_format="int8")})
    wide, narrow = (memory(LLAMA, config, 98_304, True) for config in (DEFAULT, eight))
    assert narrow.index_bytes == wide.index_bytes
    assert wide.host_bytes - narrow.host_bytes == 30 * 8 * (98_304 - 68) * (512 - 272)
    slow, fast = (_bound(config) for config in (DEFAULT, eight))
    assert fast / slow == pytest.approx(512 / 272, rel=0.02)


def _bound(config) -> float:
    return float(re.search(r"at most ([\d.e+]+) tokens/s", space().ruled_out(config, 1e9))[1])


def test_a_batch_needs_as_much_again():
    twice = DEFAULT.model_copy(update={"execution": Execution(batch_size=2)})
    one, two = (memory(LLAMA, config, 98_304, True) for config in (DEFAULT, twice))
    assert two.host_bytes == 2 * one.host_bytes
    assert two.gpu_bytes - one.gpu_bytes == one.gpu_bytes - 2 * 8_030_261_248
    assert does_not_fit(one, space(memory_gib=24).target) is None
    assert does_not_fit(two, space(memory_gib=24).target) == "needs 38.9 GB of the host's usable 23.2 GB"


def test_time_of_the_gpu_side_on_a_4090():
    gpu = space().target.gpu
    found = cost_model.gpu_side(LLAMA, DEFAULT, 98_304, gpu)
    bandwidth, latency = 1.008e12 * 0.8, gpu.kernel_latency_s.value
    read = 2 * (8_030_261_248 - 128_256 * 4096)
    assert found.weights == pytest.approx(read / bandwidth)
    assert found.gpu_attend == pytest.approx((2 * 98_304 + 30 * 580) * 4096 / bandwidth + 32 * 6 * latency)
    assert found.launch == pytest.approx((32 * 5 + 30 * 4) * latency)
    assert found.link == pytest.approx(30 * 32 * (2 * 128 + 2 * 150 + 4 * 128 + 4) / (31507692308 * 0.84))
    assert found.cpu_retrieve == found.cpu_attend == 0.0
    assert found.total == pytest.approx(sum(found.milliseconds().values()) / 1e3)


def test_a_scan_on_the_card_adds_its_codes_and_kernels_and_tells_the_host_a_sample():
    gpu = space(gpu="h200").target.gpu
    scan, lsh = (DecodeConfig(parameters=made) for made in (ScanParameters(), LshParameters()))
    found, other = (cost_model.sampled_layer(LLAMA, config, 98_304, gpu) for config in (scan, lsh))
    codes, scores = 8 * 98_304 * (64 + 2), 4 * 98_304 * (2 * 32 + 4 * 8)
    assert found.gpu_retrieve == pytest.approx((codes + scores) / (4.8e12 * 0.45) + 9 * 3.5e-6)
    assert found.launch == other.launch
    assert other.gpu_retrieve == 0.0
    beside_the_host = scan.model_copy(update={"execution": Execution(codes="host")})
    assert cost_model.sampled_layer(LLAMA, beside_the_host, 98_304, gpu).gpu_retrieve == 0.0


def test_large_batches_are_bound_by_arithmetic():
    gpu = space().target.gpu
    small, large = (cost_model.weights_seconds(LLAMA, batch, gpu) for batch in (1, 1000))
    assert large > 5 * small


def test_expected_fractions_are_the_papers():
    for (K, L), percent in {(10, 150): 2.0, (8, 75): 5.0, (9, 120): 4.0, (11, 300): 2.0}.items():
        assert 100 * expected_fraction(LshParameters(K=K, L=L)) == pytest.approx(percent, rel=0.2)


def test_expected_fraction_of_directed_probing_lies_above_that_of_a_ball_of_as_many_buckets():
    found = [
        expected_fraction(LshParameters(K=10, L=60, probing=Probing(kind=kind, amount=amount)))
        for kind, amount in (("none", 0), ("directed", 4), ("ball", 1), ("directed", 11), ("directed", 40))
    ]
    assert found == sorted(found)
    assert found[-1] < 1
