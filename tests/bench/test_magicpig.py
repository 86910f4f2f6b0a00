"""MagicPIG's extensions beside ours: gated, timed only where the gate is green, and refused with the reason."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch

from tests.bench import fake_magicpig
from truffle.bench.__main__ import main
from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.bench.magicpig import extensions, gate
from truffle.bench.records import read_records
from truffle.bench.sizes import Sizes
from truffle.bench.step import OP
from truffle.kernels import registry
from truffle.model.config import Probing

SIZES = Sizes(context=600, heads=4, kv_heads=2, head_dim=64, K=6, L=20)
SMALL = ["--context", "600", "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--K", "6", "--L", "20"]
SPEEDUP = "speedup_over_magicpig_v02"


@pytest.fixture
def install(monkeypatch):
    """Puts modules in the place of the extensions."""
    extensions.built_threads.cache_clear()
    yield lambda modules: [monkeypatch.setitem(sys.modules, name, module) for name, module in modules.items()]
    extensions.built_threads.cache_clear()


def timed(tmp_path, ops: str, *options: str):
    file = tmp_path / "op.json"
    assert main(["op", ops, *SMALL, "--seconds", "0.05", "--json", str(file), *options]) == 0
    return read_records(file).set_index(["op", "impl"], drop=False)


def test_a_right_one_is_timed_beside_ours(install, tmp_path, capsys):
    install(fake_magicpig.modules())
    ops = f"retrieve,sparse_attend,{OP},build_tables"
    frame = timed(tmp_path, ops, "--impl", "cpu_numba,magicpig_v02")
    assert (frame.gate == "passed").all()
    for op in ops.split(","):
        ours, rival = frame.loc[op, "cpu_numba"], frame.loc[op, "magicpig_v02"]
        assert ours.samples == rival.samples
        assert ours.bytes_moved == rival.bytes_moved
        assert ours[f"{SPEEDUP}_low"] <= ours[SPEEDUP] <= ours[f"{SPEEDUP}_high"]
    assert "faster than magicpig_v02" in capsys.readouterr().out


def test_it_appears_without_being_asked_for_only_where_it_is(install, tmp_path):
    install(fake_magicpig.modules())
    assert ("retrieve", "magicpig_v02") in timed(tmp_path, "retrieve").index
    assert ("merge_states", "magicpig_v02") not in timed(tmp_path, "merge_states").index
    install(dict.fromkeys(extensions.MODULES))
    frame = timed(tmp_path, "retrieve")
    assert ("retrieve", "magicpig_v02") not in frame.index
    assert SPEEDUP not in frame


class MissesOne(fake_magicpig.LSH):
    def batch_retrieve(self, layer, codes, ids, count):
        super().batch_retrieve(layer, codes, ids, count)
        count.sub_(1).clamp_(min=0)


class Unweighted(fake_magicpig.SparseAttentionServer):
    offset = 1e6  # all weights alike


class NaturalLog(fake_magicpig.SparseAttentionServer):
    def attention_wrapper(self, layer, K, L, out, max_and_lse, *rest):
        super().attention_wrapper(layer, K, L, out, max_and_lse, *rest)
        max_and_lse[1] *= 0.6931


class Silent(fake_magicpig.SparseAttentionServer):
    def attention_wrapper(self, layer, K, L, out, *rest):
        out.fill_(torch.nan)


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        (fake_magicpig.modules(tables=MissesOne), "failed: count differs"),
        (fake_magicpig.modules(server=Unweighted), "failed: out differs by"),
        (fake_magicpig.modules(server=NaturalLog), "failed: lse differs by"),
        (fake_magicpig.modules(server=Silent), "failed: out differs by nan"),
    ],
    ids=["ids", "weights", "lse", "nan"],
)
def test_a_wrong_one_is_refused_and_not_timed(install, tmp_path, modules, reason):
    install(modules)
    record = timed(tmp_path, OP, "--impl", "cpu_numba,magicpig_v02").loc[OP, "magicpig_v02"]
    assert record.gate.startswith(reason)
    assert record.isna().median_us


class TwoThreads(fake_magicpig.LSH):
    def batch_retrieve(self, *arguments):
        threading.Thread(target=time.sleep, args=(0.5,)).start()


def test_another_number_of_threads_is_refused(install):
    install(fake_magicpig.modules())
    assert extensions.why_not(SIZES, 1) is None
    assert extensions.why_not(SIZES, 2) == "built for 1 threads, not 2"
    install(fake_magicpig.modules(tables=TwoThreads))
    extensions.built_threads.cache_clear()
    assert extensions.why_not(SIZES, 1) == "built for 1 and 2 threads, not 1"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"batch": 2}, "share one store"),
        ({"min_hits": 1}, "min_hits is 2"),
        ({"K": 16}, "K is at most 15"),
        ({"probing": Probing(kind="ball", amount=1)}, "own buckets only"),
        ({"dtype": torch.float32}, "bfloat16"),
        ({"head_dim": 80}, "multiple of 32"),
        ({"context": 1 << 24}, "32-bit sizes"),
    ],
    ids=lambda value: str(value),
)
def test_what_it_cannot_do_is_said(install, changed, reason):
    install(fake_magicpig.modules())
    assert reason in str(extensions.why_not(Sizes(**{**vars(SIZES), **changed}), 1))


def test_a_module_that_does_not_load_is_said(install, tmp_path, monkeypatch):
    (tmp_path / "lsh.py").write_text("raise ImportError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    install(fake_magicpig.modules())
    monkeypatch.delitem(sys.modules, "lsh")
    assert extensions.is_installed()
    assert extensions.why_not(SIZES, 1) == "lsh: cannot be imported: undefined symbol"


@pytest.mark.skipif(not extensions.is_installed(), reason="needs MagicPIG's lsh and sparse_attention_cpu")
@pytest.mark.parametrize(("K", "L", "heads", "kv_heads"), [(10, 150, 32, 8), (6, 30, 9, 3)])
def test_the_real_ones_pass_the_gate(K, L, heads, kv_heads):
    (threads,) = extensions.built_threads()
    sizes = Sizes(context=3_001, heads=heads, kv_heads=kv_heads, head_dim=128, K=K, L=L)
    assert extensions.why_not(sizes, threads) is None
    assert gate.check(sizes, threads) is None


def test_the_reference_it_is_held_to_differs_from_the_paper_only_where_the_offset_matters():
    data = LayerData(Sizes(context=600, heads=2, kv_heads=1, head_dim=64, K=2, L=20))
    arguments = arguments_of("sparse_attend", data)
    registry.get("sparse_attend", "reference")(**arguments)
    out, lse = gate.reference(data, arguments["ids"], arguments["count"])
    centre = (data.queries()[0].float() @ data.center[0]) * arguments["scale"]
    torch.testing.assert_close(lse, arguments["lse"][0] - centre, atol=2e-2, rtol=0)
    assert (out - arguments["out"][0]).norm() < 1e-2 * out.norm()
