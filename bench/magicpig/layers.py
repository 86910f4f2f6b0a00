"""A LayerData in MagicPIG's own servers, filled and called as its models/attnserver.py does.

Keys and queries are hashed by us, so that both sides look up the same codes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from truffle.bench.layer_data import LayerData
from truffle.bench.magicpig.extensions import SPARE_TOKENS, new_store, new_tables
from truffle.bench.sizes import Sizes


class Layers:
    """Layers for one request, with the buffers that a decoder passes. `sizes` may count a batch's heads as one's.

    Attributes:
        ids, count: [H, capacity] and [H] int32, filled by `retrieve`.
        out: [H, d] bfloat16, filled by `attend`.
        max_and_lse_log2: [2, H] float32, to base 2, filled by `attend`.
    """

    def __init__(self, sizes: Sizes, layers: int = 1) -> None:
        s = self._sizes = sizes
        capacity = s.context + SPARE_TOKENS
        self._tables, self._store = new_tables(s, layers, capacity), new_store(s, layers, capacity)
        self.ids = torch.zeros(s.heads, capacity, dtype=torch.int32)
        self.count = torch.zeros(s.heads, dtype=torch.int32)
        self.out = torch.zeros(s.heads, s.head_dim, dtype=torch.bfloat16)
        self.max_and_lse_log2 = torch.zeros(2, s.heads)

    @classmethod
    def of(cls, data: LayerData, copies: int = 1) -> Layers:
        """Copies of one layer."""
        layers = cls(data.sizes, copies)
        codes, order = sorted_codes(torch.cat([part.view(torch.int16) for part in data.segment_codes], dim=2))
        keys, norms = centred_keys(data)
        for layer in range(copies):
            layers.fill(layer, codes, order, keys, data.keys_and_values[1].contiguous(), norms)
        return layers

    def fill(self, layer: int, codes: torch.Tensor, order: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
             norms: torch.Tensor) -> None:  # fmt: skip
        """Take sorted codes [Hkv, L, n] int16 and their order int32, centred keys and values [Hkv, n, d], and the
        keys' norms [Hkv, n] float32."""
        self._tables.fill(layer, 0, codes, order)
        self._store.fill(layer, 0, keys, values, norms)

    def retrieve(self, layer: int, query_codes: torch.Tensor) -> None:
        """Look up codes [H, L] int32."""
        self._tables.batch_retrieve(layer, query_codes, self.ids, self.count)

    def attend(self, layer: int, q: torch.Tensor, ids: torch.Tensor, count: torch.Tensor) -> None:
        """Attend with queries [H, d] bfloat16; their norms are taken in the call, as upstream does."""
        s, norms = self._sizes, q.float().norm(p=2, dim=-1)
        self._store.attention_wrapper(layer, s.K, s.L, self.out, self.max_and_lse_log2, q, norms, ids, count)

    def found(self, layer: int, query_codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of the `ids` and `count` that `retrieve` finds."""
        self.retrieve(layer, query_codes)
        return self.ids.clone(), self.count.clone()


def queries(data: LayerData, draw: int) -> torch.Tensor:
    """[H, d]"""
    return data.queries(draw).view(data.sizes.heads, data.sizes.head_dim)


def query_codes(data: LayerData, draw: int) -> torch.Tensor:
    """[H, L] int32"""
    return data.query_codes(draw).view(data.sizes.heads, data.sizes.L).to(torch.int32)


def centred_keys(data: LayerData) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys minus their mean [Hkv, n, d], and the norms [Hkv, n] float32 of that, both rounded to bfloat16."""
    keys = data.keys_and_values[0]
    return centred(keys, keys.mean(dim=1, keepdim=True))


def centred(keys: torch.Tensor, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [Hkv, n, d] minus `mean` [Hkv, 1, d], and the norms [Hkv, n] float32 of that, rounded as the keys are."""
    found = (keys - mean).contiguous()
    return found, found.norm(p=2, dim=-1).float()


def building(data: LayerData) -> Callable[[], None]:
    """A call that sorts and fills the tables of the first segment, the codes that `build_tables` is given.

    Upstream clears its tables before each prompt. They are not cleared here: a fill over a filled table writes as much,
    to offsets that nobody reads.
    """
    codes = data.segment_codes[0].view(torch.int16)
    tables = new_tables(data.sizes, 1, codes.shape[2] + SPARE_TOKENS)
    values, order = torch.empty_like(codes), torch.empty(codes.shape, dtype=torch.int32)

    def call() -> None:
        _sort_into(codes, values, order)
        tables.fill(0, 0, values, order)

    return call


def sorted_codes(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [Hkv, L, n] int16 in order, and their order int32, where they are."""
    values, order = torch.empty_like(codes), torch.empty_like(codes, dtype=torch.int32)
    _sort_into(codes, values, order)
    return values, order


def _sort_into(codes: torch.Tensor, values: torch.Tensor, order: torch.Tensor) -> None:
    """The sort of upstream's prefill, a key/value head at a time, into the buffers that it keeps."""
    for head in range(codes.shape[0]):
        found, where = codes[head].sort()
        values[head].copy_(found)
        order[head].copy_(where)
