"""dense_attend in Triton: keys are split among programs, the query heads of a group share each key's load.

Every program attends one run of keys of one key/value head with an online softmax; merge_states joins the runs.
"""

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.merge_states.gpu_triton import merge_states
from truffle.kernels.registry import implements
from truffle.kernels.triton_support import operand
from truffle.kernels.workspace import partial_states

GROUP = 16  # query heads a program at most: the least rows a product on the tensor cores takes
MOST_RUNS = 128


@implements("dense_attend", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def dense_attend(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    B, Hkv, T, d = keys.shape
    H = q.shape[1]
    options = tiling(keys.dtype, H // Hkv, d)
    groups = triton.cdiv(H // Hkv, GROUP)
    runs = runs_of(T, B * Hkv * groups, options["TOKENS"])
    per_run = triton.cdiv(triton.cdiv(T, runs), options["TOKENS"]) * options["TOKENS"]
    outs, lses = partial_states(q.device, "dense_attend", runs, B * H, d) if runs > 1 else (out, lse)
    with torch.cuda.device_of(q):
        attend_run[(B * Hkv * groups, runs)](q, keys, values, lengths, outs, lses, T, B, per_run, scale, **options)
    if runs > 1:
        merge_states(outs, lses, out, lse)


def tiling(dtype: torch.dtype, group: int, d: int) -> dict:
    """Constants of `attend_run` for keys of `dtype`."""
    return {
        "G": group,
        "D": d,
        "WIDE": max(16, triton.next_power_of_2(d)),
        "OPERAND": operand(dtype),
        "ROWS": GROUP,
        "TOKENS": 64 if dtype == torch.bfloat16 else 16,
        "num_warps": 4,
        "num_stages": 2,
    }


def runs_of(T: int, programs: int, tokens: int) -> int:
    """Runs to split T keys into, so that some 512 programs share the card and none attends less than two tiles."""
    return max(1, min(MOST_RUNS, triton.cdiv(512, programs), T // (2 * tokens)))


@triton.jit
def attend_run(
    p_q,  # [B, H, d]
    p_keys,  # [B, Hkv, T, d]
    p_values,  # [B, Hkv, T, d]
    p_lengths,  # [B]
    p_outs,  # [runs, B * H, d]
    p_lses,  # [runs, B * H]
    T,
    B,
    per_run,
    scale,
    G: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    OPERAND: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    groups = tl.cdiv(G, ROWS)
    head, run = (tl.program_id(0) // groups).to(tl.int64), tl.program_id(1)  # head counts over requests
    heads = tl.num_programs(0) // groups // B
    length = tl.load(p_lengths + head // heads)
    o_row = tl.program_id(0) % groups * ROWS + tl.arange(0, ROWS)
    o_d = tl.arange(0, WIDE)
    m_row, m_d = o_row < G, o_d < D
    o_query = head * G + o_row
    m_q = m_row[:, None] & m_d
    b_q = tl.load(p_q + o_query[:, None] * D + o_d, mask=m_q, other=0.0).to(OPERAND)

    b_max = tl.full([ROWS], -float("inf"), tl.float32)
    b_total = tl.zeros([ROWS], tl.float32)
    b_sum = tl.zeros([ROWS, WIDE], tl.float32)
    start = run * per_run
    for first in range(start, tl.minimum(start + per_run, length), TOKENS):
        o_token = first + tl.arange(0, TOKENS)
        m_token = o_token < length
        o_key = (head * T + o_token)[:, None] * D + o_d
        m_key = m_token[:, None] & m_d
        b_key = tl.load(p_keys + o_key, mask=m_key, other=0.0).to(OPERAND)
        b_value = tl.load(p_values + o_key, mask=m_key, other=0.0).to(OPERAND)
        b_logit = tl.dot(b_q, tl.trans(b_key), input_precision="ieee") * scale
        b_logit = tl.where(m_token[None, :], b_logit, -float("inf"))
        b_new = tl.maximum(b_max, tl.max(b_logit, 1))
        b_weight = tl.exp(b_logit - b_new[:, None])
        b_shrink = tl.exp(b_max - b_new)
        b_total = b_total * b_shrink + tl.sum(b_weight, 1)
        b_sum = tl.dot(b_weight.to(OPERAND), b_value, b_sum * b_shrink[:, None], input_precision="ieee")
        b_max = b_new

    b_some = b_total > 0
    b_lse = tl.where(b_some, b_max + tl.log(tl.where(b_some, b_total, 1.0)), -float("inf"))
    b_out = b_sum / tl.where(b_some, b_total, 1.0)[:, None]
    o_state = run.to(tl.int64) * B * heads * G + o_query
    tl.store(p_outs + o_state[:, None] * D + o_d, b_out, mask=m_q)
    tl.store(p_lses + o_state, b_lse, mask=m_row)
