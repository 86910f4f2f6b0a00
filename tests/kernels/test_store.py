"""Rows of the store in every format, and what eight bits keep of a vector."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
import torch

from truffle.kernels import registry
from truffle.kernels.checks import ArgumentError
from truffle.kernels.quantise import as_stored, dequantise, quantise
from truffle.kernels.store import Store, row_bytes

DTYPES = (torch.bfloat16, torch.float32, torch.int8)
HKV, D = 2, 10


def vectors(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, HKV, n, D, generator=generator) * 10.0 ** (torch.arange(n) % 7 - 3)[:, None]
    return keys, values


def test_eight_bits_err_by_half_a_step_at_most():
    x = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-20, 20)[:, None, None]
    codes, scale = quantise(x)
    assert codes.dtype == torch.int8
    assert scale.dtype == torch.float32
    assert ((x - dequantise(codes, scale)).abs() <= scale[..., None] * (0.5 + 1e-4)).all()
    assert (codes.abs().amax(-1) == 127).all(), "every vector uses the whole range"


def test_steps_round_to_even_and_zero_stays_zero():
    codes, scale = quantise(torch.tensor([[127.0, 0.5, 1.5, -2.5, -127.0], [0.0, 0.0, 0.0, 0.0, 0.0]]))
    assert codes.tolist() == [[127, 0, 2, -2, -127], [0, 0, 0, 0, 0]]
    assert scale.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_own_vector(broken):
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    want = as_stored(x, torch.int8)
    x[1, 2] = broken
    found = as_stored(x, torch.int8)
    assert found.isfinite().all()
    assert torch.equal(found[::2], want[::2])
    largest = x[1][x[1].isfinite()].abs().max()
    expected = 0.0 if broken != broken else float(largest) * (1 if broken > 0 else -1)
    assert float(found[1, 2]) == pytest.approx(expected)
    x[1] = broken
    assert (as_stored(x, torch.int8)[1] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_grow_and_keep_what_they_held(dtype):
    keys, values = vectors(57, 3)
    pieces = Store.allocate(HKV, 5, D, dtype)
    for part in ((0, 4), (4, 5), (5, 30), (30, 30), (30, 57)):
        pieces = pieces.appended(keys[:, slice(*part)], values[:, slice(*part)])
    assert pieces.length == 57
    assert torch.equal(pieces.keys, as_stored(keys, dtype))
    assert torch.equal(pieces.values, as_stored(values, dtype))


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, (16, 256, 320, 512)), (torch.float32, (16, 512, 640, 1024))]
)
def test_rows_are_key_and_value_and_nothing_else(dtype, expected):
    assert tuple(row_bytes(d, dtype) for d in (2, 64, 80, 128)) == expected
    keys, values = vectors(3, 4)
    store = Store.allocate(HKV, 4, D, dtype).appended(keys, values)
    assert torch.equal(store.rows[1, 2, : 2 * D], torch.cat([keys[1, 2], values[1, 2]]).to(dtype))


def test_bytes_of_an_eight_bit_row():
    assert [row_bytes(d, torch.int8) for d in (2, 64, 80, 128)] == [16, 144, 176, 272]
    keys, values = vectors(3, 4)
    store = Store.allocate(HKV, 4, D, torch.int8).appended(keys, values)
    row = store.rows[1, 2].numpy().tobytes()
    assert len(row) == 32
    (key_codes, key_scale), (value_codes, value_scale) = quantise(keys[1, 2]), quantise(values[1, 2])
    assert row[:D] == key_codes.numpy().tobytes()
    assert row[D : 2 * D] == value_codes.numpy().tobytes()
    assert struct.unpack("<2f", row[2 * D : 2 * D + 8]) == (float(key_scale), float(value_scale))


def test_a_format_that_is_not_held_is_refused_by_store_and_operation():
    with pytest.raises(ArgumentError, match="dtype: expected bfloat16, float32 or int8, got"):
        Store.allocate(HKV, 4, D, torch.float16)
    contract = registry.contract("sparse_attend")
    arguments = contract.arguments(contract.cases[0])
    arguments["stores"] = [replace(store, rows=store.rows.half()) for store in arguments["stores"]]
    with pytest.raises(ArgumentError, match=r"stores\[0\]: rows: expected dtype bfloat16 or float32 or int8, got"):
        registry.get("sparse_attend", "cpu_numba")(**arguments)
