"""What the bandwidth kernels compute, how rates come from times, and the calibration file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from truffle.bench import bandwidth, device_bandwidth, stream_numba
from truffle.bench.bandwidth import HostCalibration
from truffle.bench.spread import Spread, durations_s
from truffle.kernels.checks import ArgumentError
from truffle.kernels.hardware import Cpu

MIB = 1 << 20


@pytest.fixture(scope="module")
def calibration() -> HostCalibration:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandwidth, "buffer_size", lambda cache, memory: MIB)
        patch.setattr(bandwidth, "MATMUL_SIZE", 16)
        patch.setattr(device_bandwidth, "measure", lambda seconds: None)
        return bandwidth.calibrate(seconds=0.0, threads_list=[1])


@pytest.mark.parametrize("blocks", [1, 7])
def test_kernels_touch_every_word_once(blocks):
    words = np.random.default_rng(0).integers(0, 1 << 63, 1003, dtype=np.uint64)
    sums = np.full(blocks, 99, np.uint64)
    stream_numba.read(words, sums)
    assert sums.sum() == words.sum()
    a, b, c = np.random.default_rng(1).random((3, 1003))
    stream_numba.triad(a, b, 3.0, c)
    np.testing.assert_allclose(c, a + 3.0 * b)
    stream_numba.copy(a, c)
    np.testing.assert_array_equal(c, a)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_gather_reads_the_rows_named_and_no_others(width, count):
    words = np.random.default_rng(0).integers(0, 1 << 63, 100 * width, dtype=np.uint64)
    ids = np.random.default_rng(1).integers(0, 100, count)
    sums = np.full(8, 99, np.uint64)
    stream_numba.gather(words, width, ids, sums)
    assert sums.sum() == words.reshape(100, width)[ids].sum()


def test_spread_orders_its_quantiles():
    spread = Spread.of([5.0, 1.0, 2.0, 4.0, 3.0, 6.0])
    assert (spread.p20, spread.p50, spread.p80, spread.repeats) == (2.0, 3.5, 5.0, 6)
    assert Spread.rate(12.0, [1.0, 2.0, 4.0, 4.0]).p50 == 4.5


def test_durations_leave_out_the_first_call_and_fill_the_time():
    now = 0.0
    steps = iter([100.0, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0])

    def run() -> None:
        nonlocal now
        now += next(steps)

    assert durations_s(run, seconds=6.5, repeats=2, clock=lambda: now) == [1.0, 2.0, 3.0, 1.0]
    assert durations_s(run, seconds=0.0, repeats=1, clock=lambda: now) == [1.0]


def test_bytes_are_counted_as_the_loops_move_them():
    work = bandwidth._work(threads=1, buffer_bytes=MIB)
    third = MIB // 8 // 3 * 8
    counted = {name: amount for name, (amount, _) in work.items()}
    assert counted["read_bytes_per_s"] == MIB
    assert counted["copy_bytes_per_s"] == 2 * third
    assert counted["triad_bytes_per_s"] == 3 * third
    assert counted["gather_256_bytes_per_s"] == counted["gather_512_bytes_per_s"] == MIB


def test_no_row_is_gathered_again_before_all_others(monkeypatch):
    seen = []
    monkeypatch.setattr(stream_numba, "gather", lambda words, width, ids, sums: seen.append(ids))
    gather = bandwidth._gatherer(np.empty(100 * 32, np.uint64), 32, gathered=30, sums=np.empty(8, np.uint64))
    for _ in range(4):
        gather()
    first_round = np.concatenate(seen[:3])
    assert len(np.unique(first_round)) == len(first_round) == 90
    assert not np.array_equal(np.sort(first_round), first_round)
    np.testing.assert_array_equal(seen[3], seen[0])


def test_calibration_has_every_rate(calibration):
    assert [rates.threads for rates in calibration.rates] == [1]
    for name, spread in calibration.rates[0]:
        if name != "threads":
            assert 0 < spread.p20 <= spread.p50 <= spread.p80, name
            assert spread.repeats >= 5, name
    assert calibration.measured_on["numba"]
    assert calibration.buffer_bytes == MIB


def test_calibration_file_round_trips(calibration, tmp_path):
    calibration.save(tmp_path / "deep/host.json")
    assert HostCalibration.load(tmp_path / "deep/host.json") == calibration


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 2}, r"host\.json: schema_version: .* got 2"),
        ({"colour": "red"}, r"host\.json: colour: Extra inputs"),
        ({"rates": 3}, r"host\.json: rates: "),
        ({"rates": []}, r"host\.json: rates: .*at least 1"),
        (
            {"cpu": {"logical_cpus": 1, "physical_cores": 1, "usable_cpus": 0, "usable_cores": 1}},
            r"host\.json: cpu\.usable_cpus: .*greater than or equal to 1, got 0",
        ),
    ],
)
def test_another_files_fault_is_named(calibration, tmp_path, change, complaint):
    path = tmp_path / "host.json"
    path.write_text(json.dumps(json.loads(calibration.model_dump_json()) | change))
    with pytest.raises(ArgumentError, match=complaint):
        HostCalibration.load(path)


@pytest.mark.parametrize(("quantile", "value"), [("p50", 0.0), ("p20", -1.0), ("p80", float("inf"))])
def test_a_rate_that_is_none_is_named(calibration, tmp_path, quantile, value):
    found = json.loads(calibration.model_dump_json())
    found["rates"][0]["read_bytes_per_s"][quantile] = value
    (tmp_path / "host.json").write_text(json.dumps(found))
    with pytest.raises(ArgumentError, match=r"host\.json: rates\.0\.read_bytes_per_s: .*expected rates above 0"):
        HostCalibration.load(tmp_path / "host.json")


def test_it_says_what_it_is_at(monkeypatch):
    monkeypatch.setattr(bandwidth, "host_rates", lambda threads, size, seconds: calibration_rates(threads))
    monkeypatch.setattr(bandwidth.kernel_rates, "measure", lambda counts, seconds: ())
    monkeypatch.setattr(bandwidth, "default_threads", lambda cpu: [1, 2])
    monkeypatch.setattr(device_bandwidth, "measure", lambda seconds: None)
    said = []
    bandwidth.calibrate(1.0, True, said.append)
    assert [text.split()[0] for text in said] == ["memory,", "memory,", "kernels:", "the"]
    assert "1 of 2 threads" in said[0]


def calibration_rates(threads: int) -> bandwidth.HostRates:
    one = Spread(p20=1.0, p50=1.0, p80=1.0, repeats=2)
    names = [name for name in bandwidth.HostRates.model_fields if name != "threads"]
    return bandwidth.HostRates(threads=threads, **dict.fromkeys(names, one))


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_more_threads_than_there_are_is_an_error(threads):
    with pytest.raises(ArgumentError, match="threads: expected 1 to"):
        bandwidth.host_rates(threads, MIB, 0.0)


def test_thread_counts_are_put_back():
    import numba
    import torch

    torch_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = numba.get_num_threads(), 3
        bandwidth.host_rates(1, MIB, 0.0)
        assert (numba.get_num_threads(), torch.get_num_threads()) == before
    finally:
        torch.set_num_threads(torch_threads)


@pytest.mark.parametrize(
    ("cpus", "cores", "counts"),
    [(1, 1, [1]), (2, 2, [1, 2]), (8, 4, [1, 2, 4, 8]), (12, 6, [1, 2, 4, 6, 8, 12]), (3, 3, [1, 2, 3])],
)
def test_default_thread_counts(cpus, cores, counts):
    cpu = Cpu(logical_cpus=64, physical_cores=32, usable_cpus=cpus, usable_cores=cores)
    assert bandwidth.default_threads(cpu) == counts


@pytest.mark.parametrize(
    ("cache_bytes", "limit_bytes", "wanted"),
    [
        (None, None, 96 * MIB),
        (32 * MIB, None, 384 * MIB),
        (768 * MIB, 1 << 40, 1 << 30),
        (32 * MIB, 1 << 30, 128 * MIB),
    ],
)
def test_buffers_exceed_the_cache_but_not_the_memory(cache_bytes, limit_bytes, wanted):
    assert bandwidth.buffer_size(cache_bytes, limit_bytes) == wanted


def test_no_device_no_device_rates():
    import torch

    if not torch.cuda.is_available():
        assert device_bandwidth.measure(0.0) is None


@pytest.mark.gpu
def test_device_rates_on_a_device():
    rates = device_bandwidth.measure(0.5)
    assert rates.memory_copy_bytes_per_s.p50 > 1e11
    assert 0 < rates.launch_latency_s.p50 < 1e-3
    assert rates.launch_latency_s.p50 / 2 < rates.layer_kernel_latency_s.p50 < 1e-4
    assert 1e10 < rates.product_bytes_per_s.p50 < 1e13
    assert 1e10 < rates.scan_bytes_per_s.p50 < 1e13
    big = {point.direction: point for point in rates.link if point.size_bytes == 1 << 28}
    small = {point.direction: point for point in rates.link if point.size_bytes == 1 << 10}
    for direction in ("h2d", "d2h"):
        assert big[direction].bytes_per_s > small[direction].bytes_per_s
