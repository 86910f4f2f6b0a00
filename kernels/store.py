"""Where sampled keys live: key, value and norm of a token side by side, and the tables that find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from truffle.kernels.checks import expect
from truffle.kernels.memory import allocate

SEGMENT_TOKENS = 65_536
_ROW_ALIGNMENT_BYTES = 16


@dataclass(frozen=True)
class Store:
    """Rows ``[key | value | norm]`` of the tokens of one request and layer.

    One gather touches one run of memory a token. Rows are padded to 16 bytes, not to a cache line: a row
    spans the same number of lines either way, and 16 keep the index of a 96K context 8% smaller.

    Attributes:
        rows: [Hkv, capacity, row width], bfloat16 or float32; the norm is a float32 in the same bits.
        length: rows in use.
        head_dim: d, even.
    """

    rows: torch.Tensor
    length: int
    head_dim: int

    @staticmethod
    def allocate(
        kv_heads: int, capacity: int, head_dim: int, dtype: torch.dtype = torch.bfloat16, **team: Any
    ) -> Store:
        """An empty store for `capacity` tokens; `team` is the `threads` and `pinning` that will read it."""
        expect(head_dim % 2 == 0, "head_dim", "an even number", head_dim)
        expect(dtype in (torch.bfloat16, torch.float32), "dtype", "bfloat16 or float32", dtype)
        return Store(allocate((kv_heads, capacity, row_width(head_dim, dtype)), dtype, **team), 0, head_dim)

    @property
    def keys(self) -> torch.Tensor:
        """[Hkv, length, d], a view."""
        return self.rows[:, : self.length, : self.head_dim]

    @property
    def values(self) -> torch.Tensor:
        """[Hkv, length, d], a view."""
        return self.rows[:, : self.length, self.head_dim : 2 * self.head_dim]

    @property
    def norms(self) -> torch.Tensor:
        """Norms of the centred keys, [Hkv, length] float32, a view."""
        start, width = 2 * self.head_dim, 4 // self.rows.element_size()
        return self.rows[:, : self.length, start : start + width].view(torch.float32).squeeze(-1)

    def appended(self, keys: torch.Tensor, values: torch.Tensor, center: torch.Tensor, **team: Any) -> Store:
        """This store with `keys` and `values` [Hkv, m, d] added; it grows by half when it is full.

        Norms are taken of the stored, rounded key minus `center` [Hkv, d] float32.
        """
        end = self.length + keys.shape[1]
        rows = self.rows
        if end > rows.shape[1]:
            capacity = max(end, rows.shape[1] * 3 // 2)
            rows = allocate((rows.shape[0], capacity, rows.shape[2]), rows.dtype, **team)
            rows[:, : self.length] = self.rows[:, : self.length]
        d = self.head_dim
        new = rows[:, self.length : end]
        new[..., :d] = keys
        new[..., d : 2 * d] = values
        store = Store(rows, end, d)
        centred = new[..., :d].float() - center[:, None]
        store.norms[:, self.length :] = torch.linalg.vector_norm(centred, dim=-1)
        return store


def row_width(head_dim: int, dtype: torch.dtype) -> int:
    """Elements a row of a store takes, padding included."""
    return row_bytes(head_dim, dtype.itemsize) // dtype.itemsize


def row_bytes(head_dim: int, element_bytes: int) -> int:
    """Bytes of a row: key, value and a float32 norm, padded to 16."""
    return -(-(2 * head_dim * element_bytes + 4) // _ROW_ALIGNMENT_BYTES) * _ROW_ALIGNMENT_BYTES


@dataclass(frozen=True)
class Segment:
    """Hash tables of up to 65,536 consecutive rows of a store.

    Bucket c of table l holds rows ``start + ids[h, l, offsets[h, l, c] : offsets[h, l, c + 1]]``.

    Attributes:
        start: first row covered.
        offsets: [Hkv, L, 2^K + 1] int32.
        ids: [Hkv, L, n] uint16, ascending inside a bucket.
    """

    start: int
    offsets: torch.Tensor
    ids: torch.Tensor

    @property
    def length(self) -> int:
        """Rows covered."""
        return self.ids.shape[2]

    @property
    def memory_bytes(self) -> int:
        """Size of the index."""
        return self.offsets.nbytes + self.ids.nbytes


def empty_segment(start: int, kv_heads: int, K: int, L: int, length: int, **team: Any) -> Segment:
    """A segment for build_tables to fill; `team` is the `threads` and `pinning` that will read it.

    Raises:
        ArgumentError: more tokens than 16-bit ids can name.
    """
    expect(1 <= length <= SEGMENT_TOKENS, "length", f"1 to {SEGMENT_TOKENS} tokens", length)
    offsets = allocate((kv_heads, L, (1 << K) + 1), torch.int32, **team)
    return Segment(start, offsets, allocate((kv_heads, L, length), torch.uint16, **team))
