"""Arguments of every operation at the size of a workload, on calibrated keys and queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any

import torch

from truffle.bench import synthetic
from truffle.bench.block_arguments import BLOCK
from truffle.bench.scan_arguments import SCAN, made_codes
from truffle.kernels import registry
from truffle.kernels.codes import Codes
from truffle.kernels.collision import TABLE_CELLS, InclusionLaw
from truffle.kernels.memory import allocate
from truffle.kernels.planes import hyperplanes
from truffle.kernels.quantise import as_stored
from truffle.kernels.store import SEGMENT_TOKENS, Segment, Store, empty_segment
from truffle.model.config import PAPER_DEFAULT, DecodeConfig, LshParameters, Probing
from truffle.model.methods.probes import probed_now, probes_of
from truffle.model.operations import Operations

PROBES = 8  # buckets a table for direct_probes, where the sizes name no other number


@dataclass(frozen=True)
class Sizes:
    """Sizes of one attention layer; requests of a batch share one store and one index, read by own queries.

    Attributes:
        dtype: of the store's rows.
        deviation: of the cosines of queries and keys.
        bits: of the codes of a scan, a coordinate.
        wanted: share of the keys that a scan is to draw, without its floor.
        per_group: whether the heads of a key/value head share a scan's sample.
    """

    context: int
    heads: int
    kv_heads: int
    head_dim: int
    K: int
    L: int
    min_hits: int = 2
    batch: int = 1
    seed: int = 0
    dtype: torch.dtype = torch.bfloat16
    probing: Probing = PAPER_DEFAULT.probing
    deviation: float = synthetic.COSINE_DEVIATION
    bits: int = 4
    wanted: float = 0.01
    per_group: bool = True

    @property
    def given_dtype(self) -> torch.dtype:
        """Of queries, keys and values as a model gives them."""
        return torch.bfloat16 if self.dtype == torch.int8 else self.dtype


class LayerData:
    """One layer's keys, index, queries and samples, each made when first asked for."""

    def __init__(self, sizes: Sizes, threads: int = 1) -> None:
        self.sizes, self._threads = sizes, threads

    def with_tables(self, K: int, L: int, min_hits: int, batch: int, probing: Probing) -> LayerData:
        """The same keys and values under other tables, another batch and other probing."""
        sizes = replace(self.sizes, K=K, L=L, min_hits=min_hits, batch=batch, probing=probing)
        other = LayerData(sizes, self._threads)
        shared = {name: getattr(self, name) for name in ("keys_and_values", "center", "store")}
        kept = (
            ("codes", "planes", "segment_codes", "segments") if (K, L) == (self.sizes.K, self.sizes.L) else ("codes",)
        )
        shared |= {name: self.__dict__[name] for name in kept if name in self.__dict__}
        other.__dict__ |= shared
        return other

    def with_codes(self, codes: Codes) -> LayerData:
        """The same keys and queries with other codes of them."""
        other = LayerData(self.sizes, self._threads)
        other.__dict__ |= {"keys_and_values": self.keys_and_values, "center": self.center, "codes": codes}
        return other

    def with_store(self, dtype: torch.dtype) -> LayerData:
        """The same keys and values in another store."""
        other = LayerData(replace(self.sizes, dtype=dtype), self._threads)
        other.__dict__ |= {"keys_and_values": self.keys_and_values, "center": self.center}
        return other

    def copied(self) -> LayerData:
        """Another layer with the same contents elsewhere in memory."""
        other = LayerData(self.sizes, self._threads)
        segments = [replace(part, offsets=elsewhere(part.offsets), ids=elsewhere(part.ids)) for part in self.segments]
        shared = {"keys_and_values": self.keys_and_values, "center": self.center, "probes": self.probes}
        store = replace(self.store, rows=elsewhere(self.store.rows))
        other.__dict__ |= {**shared, "store": store, "segments": segments}
        return other

    @property
    def memory_bytes(self) -> int:
        """Size of the store and the index."""
        return self.store.rows.nbytes + sum(segment.memory_bytes for segment in self.segments)

    @cached_property
    def keys_and_values(self) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.sizes
        return synthetic.keys_and_values(s.kv_heads, s.context, s.head_dim, s.seed, s.given_dtype, s.deviation)

    @cached_property
    def center(self) -> torch.Tensor:
        return self.keys_and_values[0].float().mean(dim=1)

    @cached_property
    def planes(self) -> torch.Tensor:
        s = self.sizes
        return torch.from_numpy(hyperplanes(s.head_dim, s.K, s.L, s.seed, 0).copy())

    @cached_property
    def store(self) -> Store:
        s = self.sizes
        return Store.allocate(s.kv_heads, s.context, s.head_dim, s.dtype).appended(*self.keys_and_values)

    @cached_property
    def codes(self) -> Codes:
        """What a scan reads."""
        return made_codes(self, self._threads)

    @cached_property
    def segment_codes(self) -> list[torch.Tensor]:
        hash_codes = registry.get("hash_codes")
        found = []
        for part in self.keys_and_values[0].split(SEGMENT_TOKENS, dim=1):
            keys = as_stored(part, self.sizes.dtype)
            codes = torch.empty(keys.shape[0], self.sizes.L, keys.shape[1], dtype=torch.uint16)
            hash_codes(keys.contiguous(), self.planes, self.center, codes, K=self.sizes.K, threads=self._threads)
            found.append(codes)
        return found

    @cached_property
    def segments(self) -> list[Segment]:
        build, found, start = registry.get("build_tables"), [], 0
        for codes in self.segment_codes:
            segment = empty_segment(start, codes.shape[0], self.sizes.K, self.sizes.L, codes.shape[2])
            build(codes, segment.offsets, segment.ids, K=self.sizes.K, threads=self._threads)
            found.append(segment)
            start += codes.shape[2]
        return found

    def queries(self, draw: int = 0) -> torch.Tensor:
        """Queries [B, H, d]; another draw gives others."""
        s = self.sizes
        return synthetic.queries(s.batch, s.heads, s.head_dim, s.seed + 1 + draw, s.given_dtype, s.deviation)

    @cached_property
    def probes(self) -> Callable[[int], tuple[torch.Tensor, InclusionLaw]]:
        """By draw: the buckets that its queries visit, [B, H, L, P], and how likely those hold a key."""
        s = self.sizes
        p = LshParameters(K=s.K, L=s.L, min_hits=s.min_hits, probing=s.probing)
        probes = probes_of(p, Operations(DecodeConfig(), "cpu"))
        return cache(lambda draw: probed_now(probes, self.queries(draw), self.planes))

    def query_codes(self, draw: int = 0) -> torch.Tensor:
        """Buckets that the queries visit, [B, H, L, P]."""
        return self.probes(draw)[0]

    def direct_probes_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of direct_probes, for PROBES buckets a table where the queries do not direct theirs."""
        s, q = self.sizes, self.queries(draw).float()
        buckets = s.probing.amount if s.probing.kind == "directed" else min(PROBES, 1 << s.K)
        margins = (torch.nn.functional.normalize(q, dim=-1) @ self.planes).view(s.batch, s.heads, s.L, s.K)
        return {
            "margins": margins,
            "query_codes": torch.empty(*margins.shape[:3], buckets, dtype=torch.uint16),
            "log_u": torch.empty(s.batch * s.heads, TABLE_CELLS + 1),
            "min_hits": s.min_hits,
        }

    def retrieve_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of retrieve, outputs not yet filled."""
        s, rows = self.sizes, self.sizes.batch * self.sizes.heads
        return {
            "tables": [self.segments] * s.batch,
            "query_codes": self.query_codes(draw),
            "ids": torch.empty(rows, s.context, dtype=torch.int32),
            "count": torch.empty(rows, dtype=torch.int32),
            "min_hits": s.min_hits,
        }

    def sparse_attend_arguments(self, draw: int = 0, found: dict[str, Any] | None = None) -> dict[str, Any]:
        """Arguments of sparse_attend over the keys that the tables sample, or over `found`, the ids and count of a
        retrieve to come.
        """
        s = self.sizes
        found = found or self._found(draw)
        return {
            "q": self.queries(draw),
            "stores": [self.store] * s.batch,
            "ids": found["ids"],
            "count": found["count"],
            "center": self.center.expand(s.batch, -1, -1).contiguous(),
            "law": self.probes(draw)[1],
            "log_weight": None,
            "out": torch.empty(s.batch, s.heads, s.head_dim),
            "lse": torch.empty(s.batch, s.heads),
            "scale": s.head_dim**-0.5,
        }

    def retrieve_attend_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of retrieve_attend, outputs not yet filled."""
        found = self.retrieve_arguments(draw)
        attend = self.sparse_attend_arguments(draw, found)
        return {name: value for name, value in (found | attend).items() if name not in ("ids", "log_weight")}

    def _found(self, draw: int) -> dict[str, Any]:
        """What retrieve finds, in no more room than it takes."""
        found = self.retrieve_arguments(draw)
        registry.get("retrieve")(**found, threads=self._threads)
        longest = max(int(found["count"].max()), 1)
        return {"ids": found["ids"][:, :longest].contiguous(), "count": found["count"]}

    def hash_codes_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of hash_codes over all keys."""
        keys = as_stored(self.keys_and_values[0], self.sizes.dtype).contiguous()
        codes = torch.empty(keys.shape[0], self.sizes.L, keys.shape[1], dtype=torch.uint16)
        return {"x": keys, "planes": self.planes, "center": self.center, "codes": codes, "K": self.sizes.K}

    def build_tables_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of build_tables over the first segment's codes."""
        codes = self.segment_codes[0]
        segment = empty_segment(0, codes.shape[0], self.sizes.K, self.sizes.L, codes.shape[2])
        return {"codes": codes, "offsets": segment.offsets, "ids": segment.ids, "K": self.sizes.K}

    def dense_attend_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of dense_attend over the whole context."""
        s = self.sizes
        keys, values = (part.expand(s.batch, -1, -1, -1).contiguous() for part in self.keys_and_values)
        return {
            "q": self.queries(draw),
            "keys": keys,
            "values": values,
            "lengths": torch.full((s.batch,), s.context, dtype=torch.int32),
            "out": torch.empty(s.batch, s.heads, s.head_dim),
            "lse": torch.empty(s.batch, s.heads),
            "scale": s.head_dim**-0.5,
        }

    def merge_states_arguments(self, draw: int = 0) -> dict[str, Any]:
        """Arguments of merge_states over two parts."""
        s = self.sizes
        generator = torch.Generator().manual_seed(s.seed + draw)
        return {
            "outs": torch.randn(2, s.batch, s.heads, s.head_dim, generator=generator),
            "lses": torch.randn(2, s.batch, s.heads, generator=generator),
            "out": torch.empty(s.batch, s.heads, s.head_dim),
            "lse": torch.empty(s.batch, s.heads),
        }

    def arguments(self, op: str) -> Callable[[int], dict[str, Any]]:
        """The method that makes the arguments of `op`.

        Raises:
            KeyError: the operation has no arguments at workload size.
        """
        if op in BLOCK:
            return partial(BLOCK[op], self.sizes)
        if op in SCAN:
            return partial(SCAN[op], self)
        found = getattr(self, f"{op}_arguments", None)
        if found is None:
            raise KeyError(f"no arguments at workload size for operation {op!r}")
        return found


def elsewhere(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory as stores and tables have it."""
    return allocate(tensor.shape, tensor.dtype).copy_(tensor)
