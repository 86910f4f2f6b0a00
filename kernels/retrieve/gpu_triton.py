"""retrieve in Triton: a program a bucket counts its keys, and appends those that it brings to `min_hits`.

Counters are bytes, four to a word that is added to atomically, so that whoever adds the last hit knows it.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportCallIssue=false, reportIndexIssue=false

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements
from truffle.kernels.store import Segment
from truffle.kernels.workspace import workspace

BLOCK = 256  # ids a turn


@implements("retrieve", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def retrieve(
    tables: Sequence[Sequence[Segment]],
    query_codes: torch.Tensor,
    ids: torch.Tensor,
    count: torch.Tensor,
    *,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    _, H, L, P = query_codes.shape
    per_word = 4 if L < 256 else 2
    segments = [(b, segment) for b, held in enumerate(tables) for segment in held]
    words = [-(-segment.length // (4 * per_word)) * 4 for _, segment in segments]
    hits = workspace(ids.device, "retrieve", H * sum(words), torch.int32)
    hits[: H * sum(words)].zero_()
    count.zero_()
    first = 0
    with torch.cuda.device_of(ids):
        for (b, segment), own in zip(segments, words, strict=True):
            group, entries = H // segment.offsets.shape[0], segment.offsets.shape[2]
            count_hits[(H, L * P)](
                segment.offsets, segment.ids, query_codes[b], hits[H * first :], ids[b * H], count[b * H :],
                segment.start, segment.length, L, own, ids.shape[1], min_hits,
                **tiling(group, entries, P, per_word),
            )  # fmt: skip
            first += own


def tiling(group: int, entries: int, probes: int, per_word: int) -> dict:
    """Constants of `count_hits`."""
    return {"GROUP": group, "ENTRIES": entries, "P": probes, "PER_WORD": per_word, "BLOCK": BLOCK, "num_warps": 1}


@triton.jit(do_not_specialize=["start", "min_hits"])
def count_hits(
    p_offsets,  # [Hkv, L, ENTRIES]
    p_ids,  # [Hkv, L, n]
    p_codes,  # [H, L, P]
    p_hits,  # [H, words]
    p_found,  # [H, capacity]
    p_count,  # [H]
    start,
    n,
    L,
    words,
    capacity,
    min_hits,
    GROUP: tl.constexpr,
    ENTRIES: tl.constexpr,
    P: tl.constexpr,
    PER_WORD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    BITS: tl.constexpr = 32 // PER_WORD
    h, bucket = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_table = h // GROUP * L + bucket // P
    code = tl.load(p_codes + h * L * P + bucket).to(tl.int32)
    m_code = code < ENTRIES - 1
    first = tl.load(p_offsets + o_table * ENTRIES + code, mask=m_code, other=0)
    last = tl.load(p_offsets + o_table * ENTRIES + code + 1, mask=m_code, other=0)
    for i in range(tl.maximum(first, 0), tl.minimum(last, n), BLOCK):
        o_id = i + tl.arange(0, BLOCK)
        m_id = o_id < tl.minimum(last, n)
        b_id = tl.load(p_ids + o_table * n + o_id, mask=m_id, other=0).to(tl.int32)
        m_id = m_id & (b_id < n)
        b_shift = b_id % PER_WORD * BITS
        b_word = tl.atomic_add(p_hits + h * words + b_id // PER_WORD, 1 << b_shift, mask=m_id, sem="relaxed")
        b_hits = (b_word >> b_shift) & ((1 << BITS) - 1)
        m_new = m_id & (b_hits + 1 == min_hits)
        b_new = m_new.to(tl.int32)
        found = tl.sum(b_new, 0)
        if found > 0:
            place = tl.atomic_add(p_count + h, found, sem="relaxed")
            o_found = place + tl.cumsum(b_new, 0) - b_new
            tl.store(p_found + h * capacity + o_found, start + b_id, mask=m_new & (o_found < capacity))
