"""What the conformance suite cannot see of the native kernels: threads, forks and special values."""

from __future__ import annotations

import copy
import os
import threading
import time
import weakref

import pytest
import torch

pytest.importorskip("truffle.kernels.isa", reason="the native extension is not built", exc_type=ImportError)

from tests.kernels.native_calls import OPS, assert_agrees, call
from truffle.kernels import registry
from truffle.kernels.isa import ISAS, native, resolve, why_not


def test_only_auto_falls_back(monkeypatch):
    monkeypatch.setattr("truffle.kernels.isa.why_not", lambda isa: None if isa == "scalar" else "absent")
    assert resolve.__wrapped__("auto") == "scalar"
    with pytest.raises(ValueError, match=r"avx512.*absent"):
        resolve.__wrapped__("avx512")


def test_scalar_runs_everywhere():
    assert why_not("scalar") is None
    assert resolve("auto") in ISAS


def test_repeated_id_is_found_once():
    def spoil(tables):
        tables[0][0].ids.fill_(3)
        return tables

    got = call("retrieve", tables=spoil)
    assert got["count"].tolist() == [1] * 8
    assert set(got["ids"][:, 0].tolist()) == {3}


def test_more_than_255_tables_do_not_wrap():
    from truffle.kernels.retrieve.contract import build_segments

    codes = torch.zeros(1, 300, 5, dtype=torch.uint16)
    for min_hits in (1, 44, 256, 300):
        ids, count = torch.empty(1, 5, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
        tables = [build_segments(codes, 2, [5])]
        registry.get("retrieve", "cpu_native")(
            tables, codes[None, :, :, :1].contiguous(), ids, count, min_hits=min_hits
        )
        assert sorted(ids[0, : count[0]].tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("op", OPS)
def test_more_threads_than_cores(op):
    assert_agrees(op, call(op, threads=4 * (os.cpu_count() or 1) + 3))


def test_two_python_threads_at_once():
    problems = []

    def work(op: str) -> None:
        try:
            for _ in range(10):
                assert_agrees(op, call(op, threads=3))
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(op,)) for op in ("sparse_attend", "dense_attend", "retrieve")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_team():
    arguments = call("build_tables", threads=2)
    child = os.fork()
    if child == 0:
        arguments["ids"].fill_(0)
        native.build_tables(arguments["codes"], arguments["offsets"], arguments["ids"], arguments["K"], 3, "scalar")
        os._exit(0)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0)


def test_team_survives_an_error():
    for _ in range(3):
        with pytest.raises(ValueError, match="codes"):
            call("build_tables", codes=lambda codes: codes.fill_(300), threads=4)
    assert_agrees("build_tables", call("build_tables", threads=4))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_special_keys_reach_only_their_heads(isa, value):
    if why_not(isa):
        pytest.skip(why_not(isa))

    def spoil(stores):
        stores[0].rows[0, 7] = value
        return stores

    got = call(
        "sparse_attend",
        stores=spoil,
        count=lambda count: count.fill_(0).index_fill_(0, torch.tensor([4]), 150),
        ids=lambda ids: torch.arange(ids.shape[1], dtype=torch.int32).expand_as(ids).contiguous(),
        isa=isa,
    )
    others = torch.arange(9) != 4
    assert (got["out"][0, others] == 0).all()
    assert (got["lse"][0, others] == -torch.inf).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("gap", [90.0, 1000.0, 1e30])
def test_weights_that_underflow_are_zero(isa, gap):
    if why_not(isa):
        pytest.skip(why_not(isa))
    keys = torch.zeros(1, 1, 40, 2)
    keys[..., 1:, 0] = -gap
    values = torch.ones(1, 1, 40, 2)
    values[..., 0, :] = 5.0
    out, lse = torch.empty(1, 1, 2), torch.empty(1, 1)
    lengths = torch.tensor([40], dtype=torch.int32)
    q = torch.tensor([[[1.0, 0.0]]])
    registry.get("dense_attend", "cpu_native")(q, keys, values, lengths, out, lse, scale=1.0, isa=isa)
    assert out.flatten().tolist() == [5.0, 5.0]
    assert lse.item() == 0.0


@pytest.mark.parametrize("d", [2, 6, 18, 34, 100])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_even_head_dim(d, isa, dtype):
    if why_not(isa):
        pytest.skip(why_not(isa))
    from truffle.kernels.contract import Case

    for op, sizes in {
        "sparse_attend": {"B": 1, "H": 3, "Hkv": 1, "keys": [45], "law": None},
        "dense_attend": {"B": 1, "H": 5, "Hkv": 1, "lengths": [45]},
    }.items():
        case = Case("d", sizes | {"d": d, "dtype": dtype}, seed=d)
        got, want = (registry.contract(op).arguments(case) for _ in range(2))
        registry.get(op, "reference")(**want)
        registry.get(op, "cpu_native")(**got, isa=isa)
        assert registry.contract(op).compare(got, want) is None


def test_handles_keep_tensors_alive_and_do_not_stop_copies():
    got = call("sparse_attend")
    store = got["stores"][0]
    assert isinstance(store.__dict__["_native"], native.Store)
    assert copy.deepcopy(store).__dict__["_native"] is None
    assert_agrees("sparse_attend", call("sparse_attend", stores=[copy.deepcopy(store)]))
    alive = weakref.ref(store.rows)
    handle = store.__dict__["_native"]
    del store, got
    assert alive() is not None
    del handle
    assert alive() is None
