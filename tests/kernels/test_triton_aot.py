"""Every Triton kernel compiles for every generation of cards, within the shared memory of the smallest."""

import os
import re

import pytest
import torch

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("an interpreted kernel cannot be compiled", allow_module_level=True)

from tests.kernels.triton_aot import CAPABILITIES, SHARED_BYTES, SPILLED_BYTES, Launch, compiled_for
from truffle.kernels.dense_attend import gpu_triton as dense_attend
from truffle.kernels.hash_codes import gpu_triton as hash_codes
from truffle.kernels.merge_states import gpu_triton as merge_states
from truffle.kernels.quantize_keys import gpu_triton as quantize_keys
from truffle.kernels.retrieve import gpu_triton as retrieve
from truffle.kernels.rms_norm import gpu_triton as rms_norm
from truffle.kernels.rotate_heads import gpu_triton as rotate_heads
from truffle.kernels.scan_triton import draw, estimate, propose
from truffle.kernels.sparse_attend import gpu_triton as sparse_attend
from truffle.kernels.swiglu import gpu_triton as swiglu
from truffle.kernels.wait_for_host import await_turn

BF16, F32, I32 = torch.bfloat16, torch.float32, torch.int32
KEYS, QUERIES = 98_304, 32  # tokens of a request: a prompt's keys, and the heads of one decoded token
HASHED = [  # dtype, terms of a plane, K, d, n
    (BF16, 1, 10, 128, KEYS), (BF16, 1, 10, 128, QUERIES), (BF16, 1, 16, 256, KEYS), (BF16, 1, 1, 64, KEYS),
    (BF16, 1, 7, 80, KEYS), (BF16, 3, 10, 128, KEYS), (BF16, 3, 16, 256, QUERIES), (BF16, 1, 5, 16, KEYS),
    (F32, 1, 10, 128, KEYS), (F32, 1, 8, 64, KEYS), (F32, 1, 16, 256, QUERIES), (F32, 1, 12, 80, QUERIES),
]  # fmt: skip
ATTENDED = [(BF16, 4, 128), (BF16, 3, 64), (BF16, 8, 256), (F32, 8, 128), (F32, 1, 80)]  # dtype, group, d

pytestmark = pytest.mark.parametrize("capability", CAPABILITIES)


@pytest.fixture(autouse=True)
def _compiled_anew(tmp_path, monkeypatch):
    """Compile rather than remember, and let the assembler say what it spills."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")


def fits(capability, launch):
    compiled = compiled_for(capability, launch)
    assert compiled.shared_bytes <= SHARED_BYTES
    assert compiled.spilled_bytes <= SPILLED_BYTES
    return compiled


@pytest.mark.parametrize(("dtype", "terms", "K", "d", "n"), HASHED)
def test_hash_codes(capability, dtype, terms, K, d, n):
    constants, divisible = hash_codes.tiling(dtype, terms, K, d, n), ("n",)
    pointers = {"p_x": dtype, "p_blocks": dtype, "p_offsets": F32, "p_codes": torch.uint16}
    if n == QUERIES:
        constants["p_offsets"] = None
    compiled = fits(capability, Launch(hash_codes.hash_kernel, pointers, constants, {}, divisible))
    assert "mma" in compiled.ptx, "not on the tensor cores"
    # Outside of a pipelined loop Triton 3.6 has got warp-group products wrong.
    assert "wgmma" not in compiled.ptx or "cp.async" in compiled.ptx


@pytest.mark.parametrize(("dtype", "terms"), [(BF16, 3), (F32, 1)])
def test_project_centers(capability, dtype, terms):
    constants = hash_codes.tiling(dtype, terms, 10, 128, KEYS)
    shared = {name: constants[name] for name in ("D", "WIDE", "TERMS", "PLANES")}
    pointers = {"p_center": F32, "p_blocks": dtype, "p_offsets": F32}
    fits(capability, Launch(hash_codes.project_centers, pointers, shared, {}))


@pytest.mark.parametrize(("dtype", "group", "d"), ATTENDED)
def test_dense_attend(capability, dtype, group, d):
    pointers = dict.fromkeys(("p_q", "p_keys", "p_values"), dtype)
    pointers |= {"p_lengths": torch.int32, "p_outs": F32, "p_lses": F32}
    fits(
        capability,
        Launch(dense_attend.attend_run, pointers, dense_attend.tiling(dtype, group, d), {"scale": "fp32"}),
    )


@pytest.mark.parametrize(("parts", "d", "out"), [(2, 128, BF16), (128, 256, F32), (3, 80, F32)])
def test_merge_states(capability, parts, d, out):
    pointers = dict.fromkeys(("p_outs", "p_lses", "p_lse"), F32) | {"p_out": out}
    fits(capability, Launch(merge_states.merge_kernel, pointers, merge_states.tiling(parts, d), {}))


@pytest.mark.parametrize(("dtype", "width"), [(BF16, 4096), (BF16, 16_384), (F32, 576)])
def test_rms_norm(capability, dtype, width):
    pointers = dict.fromkeys(("p_x", "p_weight", "p_out"), dtype)
    fits(capability, Launch(rms_norm.norm_row, pointers, rms_norm.tiling(width), {"epsilon": "fp32"}))


@pytest.mark.parametrize(("dtype", "d"), [(BF16, 128), (F32, 64), (BF16, 80)])
def test_rotate_heads(capability, dtype, d):
    pointers = dict.fromkeys(("p_stacked", "p_q", "p_keys", "p_told"), dtype) | {"p_cos": F32, "p_sin": F32}
    fits(capability, Launch(rotate_heads.rotate_row, pointers, rotate_heads.tiling(d), {}))


@pytest.mark.parametrize("dtype", [BF16, F32])
def test_swiglu(capability, dtype):
    pointers = dict.fromkeys(("p_gate_up", "p_out"), dtype)
    fits(capability, Launch(swiglu.gate_row, pointers, swiglu.tiling(), {}, ("width",)))


def test_wait_for_host(capability):
    pointers = dict.fromkeys(("p_opened", "p_turn"), torch.int32)
    compiled = fits(capability, Launch(await_turn, pointers, {"num_warps": 1}, {}))
    assert compiled.ptx.count("ld.volatile.global") == 2, "the flag is not looked at again"


@pytest.mark.parametrize(("group", "probes", "per_word"), [(4, 1, 4), (3, 11, 2)])
def test_retrieve(capability, group, probes, per_word):
    constants = retrieve.tiling(group, (1 << 10) + 1, probes, per_word)
    pointers = {"p_offsets": torch.int32, "p_ids": torch.uint16, "p_codes": torch.uint16, "p_hits": torch.int32}
    pointers |= {"p_found": torch.int32, "p_count": torch.int32}
    fits(capability, Launch(retrieve.count_hits, pointers, constants, {}, ("n", "words", "capacity")))


@pytest.mark.parametrize(
    ("dtype", "q_dtype", "d", "by_law"),
    [(BF16, BF16, 128, True), (BF16, BF16, 64, False), (F32, F32, 80, True), (BF16, BF16, 256, True),
     (torch.int8, BF16, 128, True), (torch.int8, F32, 256, False)],
)  # fmt: skip
def test_sparse_attend(capability, dtype, q_dtype, d, by_law):
    constants = sparse_attend.tiling(d) | {"GROUP": 4, "SHARING": 1 if by_law else 4, "EACH": False}
    pointers = dict.fromkeys(("p_scales", "p_center", "p_tables", "p_log_weight", "p_outs", "p_lses"), F32)
    pointers |= {"p_q": q_dtype, "p_rows": dtype, "p_ids": torch.int32, "p_count": torch.int32}
    absent = ["p_log_weight"] if by_law else ["p_center", "p_tables"]
    absent += [] if dtype == torch.int8 else ["p_scales"]
    constants |= dict.fromkeys(absent)
    launch = Launch(sparse_attend.attend_sample, pointers, constants, {"scale": "fp32"}, ("width",))
    compiled = fits(capability, launch)
    assert "ld.global.v" in compiled.ptx or "ld.global.L1::evict_last.v" in compiled.ptx, "rows not read in vectors"


@pytest.mark.parametrize(("dtype", "d", "bits"), [(BF16, 128, 4), (F32, 256, 1)])
def test_quantize_keys(capability, dtype, d, bits):
    pointers = {"p_keys": dtype, "p_center": F32, "p_rotation": F32, "p_words": I32, "p_scales": torch.int16}
    compiled = fits(capability, Launch(quantize_keys.quantise, pointers, quantize_keys.tiling(d, bits), {}, ("n",)))
    assert "mma" in compiled.ptx, "not on the tensor cores"
    assert "wgmma" not in compiled.ptx or "cp.async" in compiled.ptx


@pytest.mark.parametrize(("group", "d", "bits"), [(4, 128, 4), (7, 64, 1), (8, 256, 2)])
def test_estimate(capability, group, d, bits):
    words = -(-bits * d // 32)
    pointers = {"p_words": I32, "p_scales": BF16, "p_queries": I32, "p_corrections": I32, "p_factors": F32}
    pointers |= {"p_lengths": I32, "p_scores": F32, "p_peaks": F32, "p_sums": F32}
    launch = Launch(estimate.estimate, pointers, estimate.tiling(group, words, bits), {}, ("stride", "H"))
    compiled = fits(capability, launch)
    heads = launch.constants["HEADS"]
    assert compiled.ptx.count("dp4a") == heads * words * (8 // bits) * 4, "not four tokens a thread"
    assert re.search(r"ld\.global\S*\.v4\.b32", compiled.ptx), "codes not read in vectors"


def test_quantise_query(capability):
    pointers = {"p_q": F32, "p_queries": torch.int8, "p_corrections": I32, "p_factors": F32, "p_bins": I32}
    constants = estimate.query_tiling(80, 20, 2)
    compiled = fits(capability, Launch(estimate.quantise_query, pointers, constants, {"scale": "fp32"}))
    assert "fma" not in compiled.ptx, "products are not rounded before they are"


@pytest.mark.parametrize("heads", [1, 7])
def test_propose(capability, heads):
    pointers = dict.fromkeys(("p_scores", "p_peaks", "p_sums", "p_proposals"), F32) | {"p_lengths": I32, "p_bins": I32}
    fits(capability, Launch(propose.propose, pointers, propose.propose_tiling(heads), {}, ("stride",)))


def test_try_candidates(capability):
    pointers = dict.fromkeys(("p_proposals", "p_wanted", "p_certain", "p_rest"), F32)
    pointers |= {"p_bins": I32, "p_lengths": I32}
    fits(capability, Launch(propose.try_candidates, pointers, propose.try_tiling(), {}, ("stride",)))


@pytest.mark.parametrize("priority", [False, True])
@pytest.mark.parametrize("kernel", [draw.count_drawn, draw.write_drawn])
def test_draw(capability, kernel, priority):
    pointers = dict.fromkeys(
        ("p_proposals", "p_cuts", "p_wanted", "p_floor", "p_certain", "p_rest", "p_log_weight"), F32
    )
    pointers |= dict.fromkeys(("p_lengths", "p_step", "p_counts", "p_ids", "p_count"), I32)
    constants = draw.tiling() | {"PRIORITY": priority}
    fits(capability, Launch(kernel, pointers, constants, {"seed": "i64"}, ("stride",)))


def test_lift(capability):
    pointers = dict.fromkeys(("p_proposals", "p_cuts", "p_lifted"), F32) | dict.fromkeys(("p_lengths", "p_step"), I32)
    fits(capability, Launch(draw.lift, pointers, draw.tiling(), {"seed": "i64"}, ("stride",)))
