"""What the native kernels refuse by themselves: wrong arrays, counts and names, and contents that lead astray."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("truffle.kernels.isa", reason="the native extension is not built", exc_type=ImportError)

from tests.kernels.native_calls import OPS, call
from truffle.kernels import registry
from truffle.kernels.isa import native


def strided(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor], -1)[..., : tensor.shape[-1]]


FIRST = {
    "hash_codes": "x",
    "build_tables": "codes",
    "direct_probes": "margins",
    "retrieve": "query_codes",
    "sparse_attend": "q",
    "dense_attend": "q",
    "quantize_keys": "keys",
    "scan_sample": "q",
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("change", [strided, lambda t: t.to(torch.float64), lambda t: t[0], lambda t: t.tolist()])
def test_refuses_wrong_arrays(op, change):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        call(op, **{FIRST[op]: change})


SECOND = {
    "hash_codes": "planes",
    "build_tables": "ids",
    "direct_probes": "log_u",
    "retrieve": "count",
    "sparse_attend": "lse",
    "dense_attend": "values",
    "quantize_keys": "center",
    "scan_sample": "count",
}


@pytest.mark.parametrize(("op", "name"), SECOND.items())
def test_names_the_array_of_a_wrong_shape(op, name):
    with pytest.raises(ValueError, match=f"{name}: expected shape"):
        call(op, **{name: lambda tensor: torch.cat([tensor, tensor])})


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_refuses_impossible_thread_counts(op, threads):
    with pytest.raises(ValueError, match="threads: expected 1 to"):
        call(op, threads=threads)


def test_refuses_unknown_isa():
    with pytest.raises(ValueError, match="isa: expected one of scalar"):
        call("hash_codes", isa="avx9000")
    codes = torch.empty(1, 1, 1, dtype=torch.uint16)
    with pytest.raises(ValueError, match="there is no such instruction set"):
        native.hash_codes(torch.ones(1, 1, 2), torch.ones(2, 1), None, codes, 1, 1, "avx9000")


@pytest.mark.parametrize("bad", [-1, 10**6])
def test_id_outside_the_store_names_its_row(bad):
    def spoil(ids):
        ids[5, 3] = bad
        return ids

    with pytest.raises(IndexError, match=rf"got {bad} in row 5"):
        call("sparse_attend", case=2, ids=spoil, threads=3)


@pytest.mark.parametrize("threads", [1, 3])
def test_id_outside_the_store_names_the_row_that_a_group_shares(threads):
    case = next(i for i, case in enumerate(registry.contract("sparse_attend").cases) if case.name == "per_group_of_8")

    def spoil(ids):
        ids[5, 3] = 260
        return ids

    with pytest.raises(IndexError, match="got 260 in row 5"):
        call("sparse_attend", case=case, ids=spoil, threads=threads)


def test_count_beyond_capacity():
    with pytest.raises(ValueError, match="count: expected"):
        call("sparse_attend", count=lambda count: count.fill_(10**6))


def test_code_without_a_bucket():
    with pytest.raises(ValueError, match="codes: expected codes below 2"):
        call("build_tables", codes=lambda codes: codes.fill_(300), threads=2)
    with pytest.raises(ValueError, match="query_codes: expected codes below 32"):
        call("retrieve", query_codes=lambda codes: codes.fill_(32), threads=2)


@pytest.mark.parametrize("damage", [-7, 10**9])
def test_corrupt_offsets(damage):
    def spoil(tables):
        tables[0][0].offsets.fill_(damage)
        return tables

    with pytest.raises(ValueError, match="tables: expected ascending offsets"):
        call("retrieve", tables=spoil)


def test_corrupt_ids():
    def spoil(tables):
        tables[0][0].ids.fill_(60_000)
        return tables

    with pytest.raises(ValueError, match="tables: expected ids below 1000"):
        call("retrieve", tables=spoil)
