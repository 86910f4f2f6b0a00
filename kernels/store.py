"""Where sampled keys live: key and value of a token side by side, and the tables that find them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from truffle.kernels.checks import expect
from truffle.kernels.memory import allocate
from truffle.kernels.quantise import dequantise, quantise

SEGMENT_TOKENS = 65_536
_ROW_ALIGNMENT_BYTES = 16
_SCALES = {torch.bfloat16: 0, torch.float32: 0, torch.int8: 2}
STORE_DTYPES = tuple(_SCALES)


@dataclass(frozen=True)
class Store:
    """Rows of the tokens of one request and layer: ``[key | value]``, or in eight bits
    ``[key codes | value codes | key scale | value scale]``.

    One gather touches one run of memory a token: 8 whole cache lines in bfloat16 at d = 128. Rows are padded to
    16 bytes, not to a line, as an eight-bit row spans 5 lines either way and 16 keep it 15% smaller. Scales are
    float32 in the row's own bits, from byte ``2 * d`` on, a multiple of 4.

    Attributes:
        rows: [Hkv, capacity, row width], bfloat16, float32 or int8 (quantise.py).
        length: rows in use.
        head_dim: d, even.
        linked: whether a device reads them over the link (memory.allocate).
    """

    rows: torch.Tensor
    length: int
    head_dim: int
    linked: bool = False

    @staticmethod
    def allocate(
        kv_heads: int, capacity: int, head_dim: int, dtype: torch.dtype = torch.bfloat16, **team: Any
    ) -> Store:
        """An empty store for `capacity` tokens; `team` says who will read it, and where (memory.allocate)."""
        expect(head_dim % 2 == 0, "head_dim", "an even number", head_dim)
        expect(dtype in STORE_DTYPES, "dtype", "bfloat16, float32 or int8", dtype)
        rows = allocate((kv_heads, capacity, row_width(head_dim, dtype)), dtype, **team)
        return Store(rows, 0, head_dim, team.get("linked", False))

    @staticmethod
    def holding(keys: torch.Tensor, values: torch.Tensor, dtype: torch.dtype) -> Store:
        """A store of `keys` and `values` [Hkv, m, d] alone, on their device."""
        heads, count, d = keys.shape
        rows = keys.new_empty(heads, count, row_width(d, dtype), dtype=dtype)
        return Store(rows, 0, d).appended(keys, values)

    @property
    def keys(self) -> torch.Tensor:
        """[Hkv, length, d]: a view, or a dequantised float32 copy of int8 rows."""
        return self._vectors(0)

    @property
    def values(self) -> torch.Tensor:
        """[Hkv, length, d]: a view, or a dequantised float32 copy of int8 rows."""
        return self._vectors(1)

    def _vectors(self, part: int) -> torch.Tensor:
        held = self._elements(part)
        return dequantise(held, self._scales(part)) if self.rows.dtype == torch.int8 else held

    def _elements(self, part: int) -> torch.Tensor:
        return self.rows[:, : self.length, part * self.head_dim : (part + 1) * self.head_dim]

    def _scales(self, part: int) -> torch.Tensor:
        start = 2 * self.head_dim + 4 * part
        return self.rows[:, : self.length, start : start + 4].view(torch.float32).squeeze(-1)

    def appended(self, keys: torch.Tensor, values: torch.Tensor, **team: Any) -> Store:
        """This store with `keys` and `values` [Hkv, m, d] added; it grows by half when it is full."""
        longer = self.longer(keys.shape[1], **team)
        new = Store(longer.rows[:, self.length : longer.length], keys.shape[1], self.head_dim)
        new._hold(0, keys)
        new._hold(1, values)
        return longer

    def copied(self, **team: Any) -> Store:
        """A store with the same contents, in memory of its own."""
        rows = allocate(self.rows.shape, self.rows.dtype, **team)
        return replace(self, rows=rows.copy_(self.rows))

    def longer(self, count: int, **team: Any) -> Store:
        """This store with `count` more rows in use, contents undefined; it grows by half when it is full."""
        end = self.length + count
        rows = self.rows
        if end > rows.shape[1]:
            capacity = max(end, rows.shape[1] * 3 // 2)
            rows = allocate((rows.shape[0], capacity, rows.shape[2]), rows.dtype, **team)
            rows[:, : self.length] = self.rows[:, : self.length]
        return Store(rows, end, self.head_dim, self.linked)

    def _hold(self, part: int, x: torch.Tensor) -> None:
        if self.rows.dtype == torch.int8:
            x, self._scales(part)[:] = quantise(x)
        self._elements(part)[:] = x


def row_width(head_dim: int, dtype: torch.dtype) -> int:
    """Elements a row of a store takes, padding included."""
    return row_bytes(head_dim, dtype) // dtype.itemsize


def row_bytes(head_dim: int, dtype: torch.dtype) -> int:
    """Bytes of a row: key, value and the scales of codes, padded to 16."""
    return -(-(2 * head_dim * dtype.itemsize + 4 * _SCALES[dtype]) // _ROW_ALIGNMENT_BYTES) * _ROW_ALIGNMENT_BYTES


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


def index_bytes(kv_heads: int, K: int, L: int, tokens: int) -> int:
    """Bytes of tables over `tokens` rows, in segments as long as can be."""
    segments = -(-tokens // SEGMENT_TOKENS)
    return kv_heads * L * (2 * tokens + 4 * segments * ((1 << K) + 1))


def empty_segment(start: int, kv_heads: int, K: int, L: int, length: int, **team: Any) -> Segment:
    """A segment for build_tables to fill; `team` says who will read it, and where (memory.allocate).

    Raises:
        ArgumentError: more tokens than 16-bit ids can name.
    """
    expect(1 <= length <= SEGMENT_TOKENS, "length", f"1 to {SEGMENT_TOKENS} tokens", length)
    offsets = allocate((kv_heads, L, (1 << K) + 1), torch.int32, **team)
    return Segment(start, offsets, allocate((kv_heads, L, length), torch.uint16, **team))
