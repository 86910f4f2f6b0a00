"""One attention layer to time operations on: calibrated keys and queries, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import torch

from truffle.bench import synthetic
from truffle.bench.copies import elsewhere
from truffle.bench.scan_arguments import made_codes
from truffle.bench.sizes import Sizes
from truffle.kernels import registry
from truffle.kernels.codes import Codes
from truffle.kernels.collision import InclusionLaw
from truffle.kernels.planes import hyperplanes
from truffle.kernels.quantise import as_stored
from truffle.kernels.store import SEGMENT_TOKENS, Segment, Store, empty_segment
from truffle.model.config import DecodeConfig, LshParameters, Probing
from truffle.model.methods.probes import probed_now, probes_of
from truffle.model.operations import Operations


class LayerData:
    """One layer's keys, index, queries and samples, each made when first asked for."""

    def __init__(self, sizes: Sizes, threads: int = 1) -> None:
        self.sizes, self.threads = sizes, threads

    def with_tables(self, K: int, L: int, min_hits: int, batch: int, probing: Probing) -> LayerData:
        """The same keys and values under other tables, another batch and other probing."""
        sizes = replace(self.sizes, K=K, L=L, min_hits=min_hits, batch=batch, probing=probing)
        kept = ["codes"]
        if (K, L) == (self.sizes.K, self.sizes.L):
            kept += ["planes", "segment_codes", "segments"]
        made = {name: self.__dict__[name] for name in kept if name in self.__dict__}
        return self._sharing(sizes, store=self.store, **made)

    def with_scan(self, bits: int, wanted: float, batch: int) -> LayerData:
        """The same keys and values under another scan and another batch."""
        made = {"codes": self.codes} if bits == self.sizes.bits and "codes" in self.__dict__ else {}
        return self._sharing(replace(self.sizes, bits=bits, wanted=wanted, batch=batch), store=self.store, **made)

    def with_codes(self, codes: Codes) -> LayerData:
        """The same keys and queries with other codes of them."""
        return self._sharing(self.sizes, codes=codes)

    def with_store(self, dtype: torch.dtype) -> LayerData:
        """The same keys and values in another store."""
        return self._sharing(replace(self.sizes, dtype=dtype))

    def copied(self) -> LayerData:
        """Another layer with the same contents elsewhere in memory."""
        segments = [replace(part, offsets=elsewhere(part.offsets), ids=elsewhere(part.ids)) for part in self.segments]
        store = replace(self.store, rows=elsewhere(self.store.rows))
        return self._sharing(self.sizes, probes=self.probes, store=store, segments=segments)

    def with_keys_elsewhere(self) -> LayerData:
        """The same keys and values elsewhere in memory."""
        other = LayerData(self.sizes, self.threads)
        other.__dict__["keys_and_values"] = tuple(elsewhere(part) for part in self.keys_and_values)
        return other

    def _sharing(self, sizes: Sizes, **made: Any) -> LayerData:
        """One with these keys and values, and whatever else is made already."""
        other = LayerData(sizes, self.threads)
        other.__dict__ |= {"keys_and_values": self.keys_and_values, "center": self.center, **made}
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
        return made_codes(self, self.threads)

    @cached_property
    def segment_codes(self) -> list[torch.Tensor]:
        hash_codes = registry.get("hash_codes")
        found = []
        for part in self.keys_and_values[0].split(SEGMENT_TOKENS, dim=1):
            keys = as_stored(part, self.sizes.dtype)
            codes = torch.empty(keys.shape[0], self.sizes.L, keys.shape[1], dtype=torch.uint16)
            hash_codes(keys.contiguous(), self.planes, self.center, codes, K=self.sizes.K, threads=self.threads)
            found.append(codes)
        return found

    @cached_property
    def segments(self) -> list[Segment]:
        build, found, start = registry.get("build_tables"), [], 0
        for codes in self.segment_codes:
            segment = empty_segment(start, codes.shape[0], self.sizes.K, self.sizes.L, codes.shape[2])
            build(codes, segment.offsets, segment.ids, K=self.sizes.K, threads=self.threads)
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
