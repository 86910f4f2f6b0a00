"""Every implementation of every operation against the reference, on every case and instruction set."""

from __future__ import annotations

import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.contract import Arguments
from truffle.kernels.moving import moved


def why_not_isa(name: str) -> str | None:
    if name == "auto":
        return None
    from truffle.kernels import isa

    return isa.why_not(name)


def runs() -> list:
    found = []
    for op in registry.ops():
        for name in registry.names(op):
            reason = registry.why_not(op, name)
            isas = ("auto",) if reason else ("auto", *registry.get(op, name).needs.isas)
            for isa in isas:
                obstacle = reason or why_not_isa(isa)
                for case in registry.contract(op).cases:
                    marks = [pytest.mark.skip(reason=f"{op}/{name}: {obstacle}")] if obstacle else []
                    identity = f"{op}-{name}-{isa}-{case.name}"
                    found.append(pytest.param(op, name, isa, case, marks=marks, id=identity))
    return found


@pytest.mark.parametrize(("op", "name", "isa", "case"), runs())
@pytest.mark.parametrize("threads", [1, 3])
def test_agrees_with_the_reference(op, name, isa, case, threads):
    implementation = registry.get(op, name)
    contract = registry.contract(op)
    want = contract.arguments(case)
    got = on_device(contract.arguments(case), implementation.needs.device)
    registry.get(op, "reference")(**want)
    implementation(**got, threads=threads, isa=isa)
    problem = contract.compare(on_device(got, "cpu"), want)
    assert problem is None, problem


@pytest.mark.parametrize("op", registry.ops())
def test_compare_notices_untouched_outputs(op):
    contract = registry.contract(op)
    case = contract.cases[1]
    want = contract.arguments(case)
    registry.get(op, "reference")(**want)
    assert contract.compare(contract.arguments(case), want) is not None


def on_device(arguments: Arguments, device: str) -> Arguments:
    return moved(arguments, "cuda" if device == "cuda" and torch.cuda.is_available() else "cpu")
