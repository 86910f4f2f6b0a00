"""Lines through times that are known, and what is made of them between and beyond."""

from __future__ import annotations

import pytest

from truffle.autotune.host_model import HostKernels
from truffle.bench.kernel_rates import KernelTime
from truffle.bench.spread import Spread
from truffle.kernels.checks import ArgumentError


def made(op: str, seconds: float, threads: int = 1, isa: str = "avx2", store_format: str = "bfloat16", **work: float):
    spread = Spread(p20=seconds / 2, p50=seconds, p80=2 * seconds, repeats=5)
    return KernelTime(op=op, threads=threads, isa=isa, store_format=store_format, work=work, seconds=spread)


def retrieves(latency: float, cost: float, threads: int = 1) -> list[KernelTime]:
    return [made("retrieve", latency + cost * n, threads, entries=n, counters=7.0 * n) for n in (1e5, 4e5)]


def test_a_line_goes_on_where_nothing_was_timed():
    kernels = HostKernels([made("sparse_attend", 1e-4 + 2e-10 * n, bytes=n) for n in (1e6, 3e6)])
    assert kernels.seconds("sparse_attend", {"bytes": 9e6}, 1) == pytest.approx(1e-4 + 2e-10 * 9e6)
    assert kernels.seconds("sparse_attend", {"bytes": 0.0}, 1) == pytest.approx(1e-4)


def test_costs_are_told_apart_and_none_is_negative():
    points = [(1e5, 1e6), (3e5, 1e6), (1e5, 4e6), (5e5, 2e6)]
    times = [made("retrieve", 5e-5 + 1e-9 * e + 3e-11 * c, entries=e, counters=c) for e, c in points]
    assert HostKernels(times).seconds("retrieve", {"entries": 2e6, "counters": 8e6}, 1) == pytest.approx(
        5e-5 + 1e-9 * 2e6 + 3e-11 * 8e6
    )
    falling = HostKernels([made("dense_attend", seconds, bytes=n) for n, seconds in ((1e6, 2e-3), (2e6, 1e-3))])
    assert falling.seconds("dense_attend", {"bytes": 1e9}, 1) > 0
    assert falling.seconds("dense_attend", {"bytes": 1e9}, 1) >= falling.seconds("dense_attend", {"bytes": 1.0}, 1)


def test_between_thread_counts_times_lie_between_and_beyond_them_stay():
    kernels = HostKernels([*retrieves(0.0, 1e-8, 1), *retrieves(0.0, 1e-8 / 4, 4)])
    work = {"entries": 1e5, "counters": 7e5}
    one, two, four, many = (kernels.seconds("retrieve", work, threads) for threads in (1, 2, 4, 64))
    assert (one, two, four) == pytest.approx((1e-3, 0.5e-3, 0.25e-3))
    assert many == four


def test_fused_is_its_parts_by_the_ratio_that_was_measured():
    finds, attends = made("retrieve", 1e-3, entries=1e5), made("sparse_attend", 3e-3, bytes=1e6)
    both = made("retrieve_attend", 3e-3, entries=1e5, bytes=1e6)
    eight = made("sparse_attend", 1e-3, store_format="int8", bytes=1e6)
    kernels = HostKernels([finds, attends, both, eight])
    work = {"entries": 1e5, "bytes": 1e6}
    assert kernels.seconds("retrieve_attend", work, 1) == pytest.approx(3e-3)
    assert kernels.seconds("retrieve_attend", work, 1, store_format="int8") == pytest.approx(0.75 * 2e-3)


def test_a_narrower_instruction_set_takes_as_much_longer_as_it_did():
    times = [
        made("sparse_attend", seconds, isa=isa, bytes=1e6) for isa, seconds in (("avx512", 1e-3), ("scalar", 4e-3))
    ]
    kernels = HostKernels(times)
    work = {"bytes": 1e6}
    assert kernels.seconds("sparse_attend", work, 1, "scalar") == pytest.approx(4e-3)
    assert kernels.seconds("sparse_attend", work, 1, "avx512") == kernels.seconds("sparse_attend", work, 1)


def test_threads_that_spin_save_what_waking_takes():
    spinning = made("sparse_attend", 0.9e-3, threads=4, bytes=1e6).model_copy(update={"wait_policy": "spin"})
    parked = [made("sparse_attend", 1e-3 * n, threads=4, bytes=1e6 * n) for n in (1, 3)]
    kernels = HostKernels([*parked, spinning])
    assert kernels.seconds("sparse_attend", {"bytes": 3e6}, 4) == pytest.approx(3e-3)
    assert kernels.seconds("sparse_attend", {"bytes": 3e6}, 4, wait_policy="spin") == pytest.approx(2.9e-3)
    assert HostKernels(parked).seconds("sparse_attend", {"bytes": 3e6}, 4, wait_policy="spin") == pytest.approx(3e-3)


def test_the_undisturbed_fifth():
    times = [made("dense_attend", 1e-3, bytes=1e6)]
    assert HostKernels(times, "p20").seconds("dense_attend", {"bytes": 1e6}, 1) == pytest.approx(0.5e-3)


def test_what_was_not_timed_is_an_error():
    with pytest.raises(ArgumentError, match="host: expected a calibration with times of kernels"):
        HostKernels([])
    with pytest.raises(ArgumentError, match="host: expected a calibration with times of scan_sample"):
        HostKernels(retrieves(0.0, 1e-8)).seconds("scan_sample", {"bytes": 1.0}, 1)
    with pytest.raises(ArgumentError, match="host: expected a calibration with times of sparse_attend"):
        HostKernels(retrieves(0.0, 1e-8)).seconds("sparse_attend", {"bytes": 1.0}, 1, store_format="int8")
