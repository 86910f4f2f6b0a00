"""sparse_attend in Triton: a sample is split among programs that gather its rows once; merge_states joins them."""

# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from truffle.kernels.collision import TABLE_CELLS, CollisionLaw, InclusionLaw
from truffle.kernels.contract import Needs
from truffle.kernels.gathering import gathered
from truffle.kernels.merge_states.gpu_triton import merge_states
from truffle.kernels.registry import implements
from truffle.kernels.store import Store
from truffle.kernels.workspace import partial_states

PROGRAMS = 1024  # to share the card
MOST_PARTS = 64


@implements("sparse_attend", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def sparse_attend(
    q: torch.Tensor,
    stores: Sequence[Store],
    ids: torch.Tensor,
    count: torch.Tensor,
    center: torch.Tensor | None,
    law: InclusionLaw | None,
    log_weight: torch.Tensor | None,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    scale: float,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    (B, H, d), capacity = q.shape, ids.shape[1]
    options = tiling(d)
    parts = max(1, min(MOST_PARTS, PROGRAMS // (B * H), triton.cdiv(capacity, options["TOKENS"])))
    outs, lses = partial_states(q.device, "sparse_attend", parts, B * H, d) if parts > 1 else (out, lse)
    tables = None if law is None else _tables(law, q.device)
    with torch.cuda.device_of(q):
        for b, store in enumerate(stores):
            packed = store.linked and law is None
            rows = gathered(store, ids, count, b, B) if packed else store.rows
            eight_bits = rows.dtype == torch.int8
            attend_sample[(H, parts)](
                q, rows, rows.view(torch.float32) if eight_bits else None, ids, count, center, tables, log_weight,
                outs, lses, b, B, store.length, rows.shape[1], rows.shape[2], capacity, scale,
                GROUP=H // rows.shape[0], SHARING=B * H // len(ids), EACH=tables is not None and len(tables) > 1,
                PACKED=packed, **options,
            )  # fmt: skip
    if parts > 1:
        merge_states(outs, lses, out, lse)


def tiling(d: int) -> dict:
    """Constants of `attend_sample` that depend on the head dimension."""
    wide = triton.next_power_of_2(d)
    return {"D": d, "WIDE": wide, "CELLS": TABLE_CELLS, "TOKENS": 32 if wide <= 128 else 16, "num_warps": 4}


def _tables(law: InclusionLaw, device: torch.device) -> torch.Tensor:
    return _kept(law, device) if isinstance(law, CollisionLaw) else torch.tensor(law.tables, device=device)


@functools.cache
def _kept(law: CollisionLaw, device: torch.device) -> torch.Tensor:
    """Never freed: a CUDA graph may hold its address."""
    return torch.tensor(law.tables, device=device)


@triton.jit
def log_inclusion(b_cosine, p_table, CELLS: tl.constexpr):
    """ln u by linear interpolation over the agreement, ``1 - acos(cosine) / pi``."""
    # acos(x) = sqrt(1 - x) * polynomial for x in [0, 1], error 2e-8: Abramowitz and Stegun, 4.4.46.
    a = tl.minimum(tl.abs(b_cosine), 1.0)
    series = 0.0066700901 + a * -0.0012624911
    series = 0.0308918810 + a * (-0.0170881256 + a * series)
    series = 0.0889789874 + a * (-0.0501743046 + a * series)
    series = 1.5707963050 + a * (-0.2145988016 + a * series)
    angle = tl.sqrt(1.0 - a) * series
    turned = tl.where(b_cosine < 0, angle, 3.14159265359 - angle)  # pi - acos
    place = turned * (CELLS / 3.14159265359)
    place = tl.where(place > 0, place, 0.0)  # NaN is not
    cell = tl.minimum(place.to(tl.int32), CELLS - 1)
    below, above = tl.load(p_table + cell), tl.load(p_table + cell + 1)
    return below + (place - cell.to(tl.float32)) * (above - below)


@triton.jit(do_not_specialize=["b", "B", "length"])
def attend_sample(
    p_q,  # [B, H, D]
    p_rows,  # [Hkv, room, width]
    p_scales,  # the rows as float32, where they are eight bits, or none
    p_ids,  # [B * H / SHARING, capacity]
    p_count,  # [B * H / SHARING]
    p_center,  # [B, Hkv, D] or none
    p_tables,  # [1 or B * H, CELLS + 1] or none
    p_log_weight,  # [B * H / SHARING, capacity] or none
    p_outs,  # [parts, B * H, D]
    p_lses,  # [parts, B * H]
    b,
    B,
    length,
    room,
    width,
    capacity,
    scale,
    GROUP: tl.constexpr,
    SHARING: tl.constexpr,  # heads a list: each reads its rows for itself, at about the same time
    EACH: tl.constexpr,  # whether every row has a table of its own
    PACKED: tl.constexpr,  # whether rows are those of the sample alone, a list's each, in the order of its ids
    D: tl.constexpr,
    WIDE: tl.constexpr,
    CELLS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    h, H = tl.program_id(0), tl.num_programs(0)
    part, parts = tl.program_id(1), tl.num_programs(1)
    row, g = (b * H + h).to(tl.int64), h // GROUP
    o_list = row // SHARING
    o_d = tl.arange(0, WIDE)
    m_d = o_d < D
    b_q = tl.load(p_q + row * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    if p_tables is not None:
        b_center = tl.load(p_center + (b * (H // GROUP) + g) * D + o_d, mask=m_d, other=0.0)
        norm = tl.sqrt(tl.sum(b_q * b_q, 0))
        p_table = p_tables + (row * (CELLS + 1) if EACH else 0)

    b_max, b_total = -float("inf"), 0.0
    b_sum = tl.zeros([WIDE], tl.float32)
    count = tl.minimum(tl.load(p_count + o_list), capacity)
    each = tl.cdiv(tl.cdiv(count, parts), TOKENS) * TOKENS
    for first in range(part * each, tl.minimum(part * each + each, count), TOKENS):
        o_id = first + tl.arange(0, TOKENS)
        b_id = tl.load(p_ids + o_list * capacity + o_id, mask=o_id < count, other=-1)
        m_id = (b_id >= 0) & (b_id < length)
        o_row = (g.to(tl.int64) * room + (o_id if PACKED else b_id)) * width
        m_row = m_id[:, None] & m_d
        b_key = tl.load(p_rows + o_row[:, None] + o_d, mask=m_row, other=0.0).to(tl.float32)
        b_value = tl.load(p_rows + o_row[:, None] + D + o_d, mask=m_row, other=0.0).to(tl.float32)
        if p_scales is not None:
            p_scale = p_scales + o_row // 4 + D // 2
            b_key *= tl.load(p_scale, mask=m_id, other=0.0)[:, None]
            b_value *= tl.load(p_scale + 1, mask=m_id, other=0.0)[:, None]
        b_logit = tl.sum(b_key * b_q, 1) * scale
        if p_tables is not None:
            b_from = tl.where(m_row, b_key - b_center, 0.0)
            b_norm = tl.sqrt(tl.sum(b_from * b_from, 1)) * norm
            b_cosine = tl.where(b_norm > 0, tl.sum(b_from * b_q, 1) / b_norm, 0.0)
            b_logit -= log_inclusion(b_cosine, p_table, CELLS)
        else:
            b_logit -= tl.load(p_log_weight + o_list * capacity + o_id, mask=m_id, other=0.0)
        b_logit = tl.where(m_id, b_logit, -float("inf"))
        b_new = tl.maximum(b_max, tl.max(b_logit, 0))
        b_origin = tl.where(b_new == -float("inf"), 0.0, b_new)
        b_weight, b_shrink = tl.exp(b_logit - b_origin), tl.exp(b_max - b_origin)
        b_total = b_total * b_shrink + tl.sum(b_weight, 0)
        b_sum = b_sum * b_shrink + tl.sum(b_weight[:, None] * b_value, 0)
        b_max = b_new

    o_state = part.to(tl.int64) * B * H + row
    b_divisor = tl.where(b_total > 0, b_total, 1.0)
    tl.store(p_outs + o_state * D + o_d, b_sum / b_divisor, mask=m_d)
    tl.store(p_lses + o_state, tl.where(b_total > 0, b_max + tl.log(b_divisor), -float("inf")))
