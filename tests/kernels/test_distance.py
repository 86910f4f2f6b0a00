"""Distances of keys from the center, which the law needs, taken from the rows as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.contract import Case
from truffle.kernels.isa import why_not

DTYPES = ("float32", "bfloat16", "int8")
CONTRACT = registry.contract("sparse_attend")


def usable() -> Iterator[tuple[str, str]]:
    for name in ("cpu_native", "cpu_numba"):
        if name in registry.names("sparse_attend") and registry.why_not("sparse_attend", name) is None:
            levels = registry.get("sparse_attend", name).needs.isas
            yield from ((name, isa) for isa in levels if why_not(isa) is None) if levels else [(name, "auto")]


def drawn(d: int, dtype: str) -> dict:
    """Arguments of 45 keys and three heads that share them; queries of an int8 store are float32."""
    query = "float32" if dtype == "int8" else dtype
    sizes = {"B": 1, "H": 3, "Hkv": 1, "keys": [45], "d": d, "dtype": dtype, "query_dtype": query}
    return CONTRACT.arguments(Case("distance", sizes, seed=d))


def attended(arguments: dict, name: str, isa: str = "auto") -> dict:
    got = arguments | {part: torch.full_like(arguments[part], torch.nan) for part in ("out", "lse")}
    registry.get("sparse_attend", name)(**got, isa=isa)
    return got


def assert_all_agree(arguments: dict) -> None:
    want = attended(arguments, "reference")
    for name, isa in usable():
        problem = CONTRACT.compare(attended(arguments, name, isa), want)
        assert problem is None, f"{name} on {isa}: {problem}"


@pytest.mark.parametrize("d", [6, 18, 34, 62, 100, 126])
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_even_head_dim(d, dtype):
    """Words of codes may be shared by key and value, in the midst of a vector and at its end."""
    assert_all_agree(drawn(d, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_key_that_is_the_center_is_at_no_distance(dtype):
    """Fused into the difference, a code times its scale would be off by a rounding, and the angle any."""
    arguments = drawn(128, dtype)
    store = arguments["stores"][0]
    store.rows[:, : store.length : 2] = store.rows[:, :1]
    arguments["center"] = store.keys[None, :, 0].float()
    assert_all_agree(arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_center_far_from_zero_does_not_cancel(dtype):
    """Keys of size 1,000 lie about 10 from the center: float32 holds squares of 1e6 to 0.06 only."""
    arguments = drawn(128, dtype)
    store = arguments["stores"][0]
    center = arguments["center"] * 100
    keys = center[0, :, None] + torch.randn(1, store.length, 128, generator=torch.Generator().manual_seed(1))
    arguments["center"], arguments["q"] = center, (arguments["q"].float() / 100).to(arguments["q"].dtype)
    arguments["stores"] = [replace(store, length=0).appended(keys, store.values)]
    assert_all_agree(arguments)


@pytest.mark.parametrize("shift_bytes", [4, 16, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_may_begin_between_cache_lines(dtype, shift_bytes):
    arguments = drawn(128, dtype)
    store = arguments["stores"][0]
    elements = shift_bytes // store.rows.element_size()
    buffer = torch.empty(store.rows.numel() + elements, dtype=store.rows.dtype)
    rows = buffer[elements:].view(store.rows.shape)
    rows[:] = store.rows
    arguments["stores"] = [replace(store, rows=rows)]
    assert_all_agree(arguments)
