"""CUDA kernels of the scan, their arithmetic run by the host, against the reference."""

import contextlib
import functools
import importlib
import shutil

import pytest

from tests.kernels.cuda_on_host import Module
from truffle.kernels import cupy_support, registry

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
CASES = {
    "quantize_keys": ("ragged", "bf16", "special_one_bit"),
    "scan_sample": ("per_head", "groups_of_7", "special", "floors_differ", "long", "priority_floors"),
}


@pytest.fixture
def on_host(tmp_path, monkeypatch):
    """Lets `gpu_cupy` of an operation run here."""
    monkeypatch.setattr(
        cupy_support, "compiled", functools.cache(lambda source, options, device: Module(source, options, tmp_path))
    )

    def implementation(op):
        module = importlib.import_module(f"truffle.kernels.{op}.gpu_cupy")
        monkeypatch.setattr(module, "stream", lambda device: contextlib.nullcontext())
        return getattr(module, op)

    return implementation


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in CASES.items() for name in names])
def test_agrees_with_the_reference(op, name, on_host):
    contract = registry.contract(op)
    case = next(case for case in contract.cases if case.name == name)
    got, want = contract.arguments(case), contract.arguments(case)
    registry.get(op, "reference")(**want)
    on_host(op)(**got)
    problem = contract.compare(got, want)
    assert problem is None, problem
