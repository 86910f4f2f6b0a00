"""Rows of a sample brought over the link: each once, however many heads share the sample."""

# pyright: reportCallIssue=false

import torch
import triton
import triton.language as tl

from truffle.kernels.store import Store
from truffle.kernels.workspace import workspace

ROWS = 8  # a program: 4 KB of bfloat16 at d = 128 on their way, and as many programs as the link needs


def gathered(store: Store, ids: torch.Tensor, count: torch.Tensor, b: int, B: int) -> torch.Tensor:
    """The rows that request b of B samples, on the device: [lists of a request, capacity, row width].

    Places of ids outside the store, and behind a list's count, are left as they are. It is scratch, for the kernels of
    the same stream that follow.

    Args:
        ids: [B * lists, capacity] int32.
        count: [B * lists] int32.
    """
    lists, capacity = len(ids) // B, ids.shape[1]
    rows, words = store.rows, store.rows.shape[2] * store.rows.itemsize // 4
    there = workspace(ids.device, "gathered rows", lists * capacity * words, torch.int32)
    there = there[: lists * capacity * words]
    gather_rows[(lists, triton.cdiv(capacity, ROWS))](
        rows.view(torch.int32), ids, count, there, b, store.length, rows.shape[1], words, capacity,
        SHARING=lists // rows.shape[0], ROWS=ROWS, WIDE=triton.next_power_of_2(words), num_warps=4,
    )  # fmt: skip
    return there.view(rows.dtype).view(lists, capacity, rows.shape[2])


@triton.jit(do_not_specialize=["b", "length"])
def gather_rows(
    p_rows,  # [Hkv, room, words]
    p_ids,  # [B * lists, capacity]
    p_count,  # [B * lists]
    p_out,  # [lists, capacity, words]
    b,
    length,
    room,
    words,
    capacity,
    SHARING: tl.constexpr,  # lists a key/value head
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    a_list, lists = tl.program_id(0), tl.num_programs(0)
    count = tl.minimum(tl.load(p_count + b * lists + a_list), capacity)
    o_id = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    b_id = tl.load(p_ids + (b * lists + a_list).to(tl.int64) * capacity + o_id, mask=o_id < count, other=-1)
    o_word = tl.arange(0, WIDE)
    mask = ((b_id >= 0) & (b_id < length))[:, None] & (o_word < words)
    o_row = ((a_list // SHARING).to(tl.int64) * room + b_id) * words
    b_row = tl.load(p_rows + o_row[:, None] + o_word, mask=mask, other=0)
    o_out = (a_list.to(tl.int64) * capacity + o_id) * words
    tl.store(p_out + o_out[:, None] + o_word, b_row, mask=mask)
