"""What the pytest-benchmark suites share: one small layer, what memory gives, and the machine in every saved file."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from truffle.bench import device_bandwidth, suite
from truffle.bench.environment import environment, versions
from truffle.bench.layer_data import LayerData
from truffle.kernels import hardware


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["truffle"] = environment()


@pytest.fixture(scope="session")
def threads() -> int:
    """Two where there are two: figures of one machine stay comparable when others use it."""
    return min(2, hardware.detect().cpu.usable_cpus)


@pytest.fixture(scope="session")
def layer(threads: int) -> LayerData:
    return LayerData(suite.LAYER, threads)


@pytest.fixture(scope="session")
def card_bytes_per_s() -> float | None:
    """What a GPU's memory gives, where there is one."""
    card = device_bandwidth.measure(1.0)
    return card.memory_copy_bytes_per_s.p50 if card else None


@pytest.fixture
def torch_threads(threads: int):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def described(benchmark: Any, threads: int) -> dict[str, Any]:
    """The benchmark's extra_info, with what every result carries."""
    benchmark.extra_info |= {"threads": threads, "versions": versions()}
    return benchmark.extra_info


@pytest.fixture
def told(benchmark: Any, described: dict[str, Any]):
    """Adds bandwidth, and its share of a peak, to what is described of a benchmark that has run."""

    def tell(peak_bytes_per_s: float) -> None:
        if benchmark.stats:
            bandwidth = described["bytes_moved"] / benchmark.stats["median"]
            described["bandwidth_bytes_per_s"] = bandwidth
            described["share_of_peak"] = bandwidth / peak_bytes_per_s

    return tell
