"""What "auto" takes of the implementations that are usable."""

from __future__ import annotations

import pytest

from truffle.kernels import registry


@pytest.mark.parametrize(
    ("op", "usable", "taken"),
    [
        ("scan_sample", {"gpu_triton", "gpu_cupy", "reference"}, "gpu_cupy"),
        ("scan_sample", {"gpu_triton", "reference"}, "gpu_triton"),
        ("quantize_keys", {"gpu_triton", "gpu_cupy", "reference"}, "gpu_triton"),
        ("quantize_keys", {"gpu_cupy", "reference"}, "gpu_cupy"),
        ("quantize_keys", {"reference"}, "reference"),
    ],
)
def test_auto_takes_the_fastest_that_is_usable(op, usable, taken, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {(op, name): name for name in usable})
    monkeypatch.setattr(registry, "why_not", lambda op, name: None if name in usable else "absent")
    assert registry._pick.__wrapped__(op, "cuda") == taken


def test_auto_refuses_where_none_is(monkeypatch):
    monkeypatch.setattr(registry, "why_not", lambda op, name: "absent")
    with pytest.raises(registry.Unusable, match=r"no implementation of retrieve is usable on cuda: .*absent"):
        registry._pick.__wrapped__("retrieve", "cuda")
