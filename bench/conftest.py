"""What the pytest-benchmark suites share: one small layer, and the machine in every saved file."""

from __future__ import annotations

from typing import Any

import pytest

from truffle.bench.environment import environment, versions
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.kernels import hardware

LAYER = Sizes(context=16_384, heads=8, kv_heads=2, head_dim=128, K=10, L=60)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["truffle"] = environment()


@pytest.fixture(scope="session")
def threads() -> int:
    """Two where there are two: figures of one machine stay comparable when others use it."""
    return min(2, hardware.detect().cpu.usable_cpus)


@pytest.fixture(scope="session")
def layer(threads: int) -> LayerData:
    return LayerData(LAYER, threads)


@pytest.fixture
def described(benchmark: Any, threads: int) -> dict[str, Any]:
    """The benchmark's extra_info, with what every result carries."""
    benchmark.extra_info |= {"threads": threads, "versions": versions()}
    return benchmark.extra_info
