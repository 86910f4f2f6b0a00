"""LSH sampling (MagicPIG, arXiv 2410.16179): tables over centred keys, sampled by collision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from truffle.kernels.checks import expect
from truffle.kernels.collision import InclusionLaw
from truffle.kernels.memory import allocate
from truffle.kernels.store import SEGMENT_TOKENS, Segment, empty_segment
from truffle.model.config import LshParameters
from truffle.model.methods.families import family_of
from truffle.model.methods.probes import probes_of
from truffle.model.methods.selector import Cached, Selection
from truffle.model.operations import Operations


@dataclass(frozen=True)
class Probed:
    """Where the keys of a step's queries are looked for, and how likely each is found.

    Attributes:
        find: sets the buckets and their law by what was asked last.
        tables: segments by request; query_codes: buckets to visit, [B, H, L, P] uint16.
        center, law: as in Selection.
    """

    find: Callable[[], None]
    tables: list[list[Segment]]
    query_codes: torch.Tensor
    center: torch.Tensor
    law: InclusionLaw


class LshSelector:
    """Hash tables of one layer, in segments a request, and the mean key that they are centred by.

    New keys become a segment; segments of equal size merge upward until one covers 65,536 rows, so their
    number grows with the logarithm of what was decoded.
    """

    def __init__(self, parameters: LshParameters, layer: int, head_dim: int, ops: Operations) -> None:
        p = parameters
        self._p, self._ops = p, ops
        expect(p.has_fast_layer, "family", "simhash or cross_polytope, which sparse_attend has the law of", p.family)
        self._family = family_of(p, ops)
        self._planes = self._family.planes(head_dim, layer)
        self._probes = probes_of(p, ops)
        self._centers: dict[int, torch.Tensor] = {}  # where the keys are
        self._stacked: dict[range, torch.Tensor] = {}  # by requests that are asked for together
        self.tables: dict[int, list[Segment]] = {}

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        if request not in self._centers:
            mean = keys.mean(dim=1, dtype=torch.float32) if self._p.centred else torch.zeros_like(keys[:, 0]).float()
            self._centers[request], self.tables[request] = mean, []
            self._stacked = {}
        codes = [self._hashed(part, self._centers[request]) for part in keys.split(SEGMENT_TOKENS, dim=1)]
        return partial(self._index, self.tables[request], codes)

    def _index(self, segments: list[Segment], codes: list[torch.Tensor]) -> None:
        for part in codes:
            start = segments[-1].start + segments[-1].length if segments else 0
            segments.append(self._built(start, self._fetched(part)))
            self._merge_equals(segments)

    def _fetched(self, codes: torch.Tensor) -> torch.Tensor:
        if self._ops.home.type != "cpu":  # where they were made
            return codes
        here = allocate(codes.shape, codes.dtype, **self._ops.team)
        self._ops.courier.carry(codes, here)
        return here

    def _hashed(self, x: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
        """Codes [R, L, n] of x [R, n, d], where x is."""
        self._planes = self._planes.to(x.device)
        codes = torch.empty(x.shape[0], self._p.L, x.shape[1], dtype=torch.uint16, device=x.device)
        self._family.hash(x, self._planes, center, codes)
        return codes

    def _built(self, start: int, codes: torch.Tensor) -> Segment:
        segment = empty_segment(start, codes.shape[0], self._p.K, self._p.L, codes.shape[2], **self._ops.team)
        self._ops.build_tables(codes, segment.offsets, segment.ids, K=self._p.K)
        return segment

    def _merge_equals(self, segments: list[Segment]) -> None:
        while len(segments) > 1 and segments[-1].length == segments[-2].length <= SEGMENT_TOKENS // 2:
            newer, older = segments.pop(), segments.pop()
            codes = torch.cat([segment_codes(older), segment_codes(newer)], dim=2)
            segments.append(self._built(older.start, codes))

    @property
    def min_hits(self) -> int:
        """Tables that must hold a key for it to be sampled."""
        return self._p.min_hits

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        return self._probes.shape, self._probes.dtype

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        self._planes = self._planes.to(q.device)
        self._probes.ask(q, self._planes, question)

    def probed(self, question: torch.Tensor, requests: range) -> Probed:
        """Where the keys are looked for that a question at home asks for; at least one request has keys."""
        find, query_codes, law = self._probes.answer(question)
        tables = [self.tables.get(request, []) for request in requests]
        return Probed(find, tables, query_codes, self._center(requests), law)

    def _center(self, requests: range) -> torch.Tensor:
        """[b, Hkv, d] at home, where it stays until requests come or go."""
        if requests not in self._stacked:
            none = torch.zeros_like(next(iter(self._centers.values())))  # a short one: nothing sealed, nothing sampled
            stacked = torch.stack([self._centers.get(request, none) for request in requests])
            self._stacked[requests] = stacked.to(self._ops.home)
        return self._stacked[requests]

    def choose(
        self, question: torch.Tensor, requests: range, count: torch.Tensor, capacity: int, cached: Cached
    ) -> tuple[Callable[[], None], Selection]:
        probed = self.probed(question, requests)
        ids = torch.empty(len(count), capacity, dtype=torch.int32, device=count.device)
        retrieve = self._ops.repeated(
            "retrieve", probed.tables, probed.query_codes, ids, count, min_hits=self._p.min_hits
        )

        def find() -> None:
            probed.find()
            retrieve()

        return find, Selection(ids, count, probed.center, probed.law)

    def twin(self) -> LshSelector:
        other = copy.copy(self)
        other._centers, other._stacked = dict(self._centers), {}
        other.tables = {request: list(segments) for request, segments in self.tables.items()}
        return other

    def keep(self, requests: list[int]) -> None:
        kept = [request for request in requests if request in self._centers]
        self._centers = {requests.index(request): self._centers[request] for request in kept}
        self.tables = {requests.index(request): self.tables[request] for request in kept}
        self._stacked = {}

    @property
    def memory_bytes(self) -> int:
        return sum(segment.memory_bytes for segments in self.tables.values() for segment in segments)


def segment_codes(segment: Segment) -> torch.Tensor:
    """The codes [Hkv, L, n] uint16 that a segment was built from."""
    sizes = segment.offsets.diff(dim=-1).long()
    codes = torch.arange(sizes.shape[-1], dtype=torch.int32, device=sizes.device).repeat(sizes[..., 0].numel())
    ordered = codes.repeat_interleave(sizes.flatten()).view(segment.ids.shape)
    unordered = torch.empty_like(ordered).scatter_(2, segment.ids.long(), ordered)
    return unordered.to(torch.uint16)
