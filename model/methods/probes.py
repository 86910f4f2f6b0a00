"""Which buckets a query visits in every table, and how likely those are to hold a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from truffle.kernels.collision import TABLE_CELLS, InclusionLaw
from truffle.kernels.directed import DirectedLaw
from truffle.kernels.planes import probe_masks
from truffle.model.config import LshParameters
from truffle.model.methods.families import family_of, law_of
from truffle.model.operations import Operations


class Probes(Protocol):
    """Finds buckets in two parts: `ask` where the queries are, `answer` on the host.

    Attributes:
        shape, dtype: of what is asked of one query head.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def ask(self, q: torch.Tensor, planes: torch.Tensor, question: torch.Tensor) -> None:
        """Fill question [B, H, *shape] from q [B, H, d] and the family's planes [d, L*columns], all on one device."""
        ...

    def answer(self, question: torch.Tensor) -> tuple[Callable[[], None], torch.Tensor, InclusionLaw]:
        """A call that reads the question on the host and sets the buckets [B, H, L, P] uint16 and their law.

        The query's own bucket comes first. Both stay valid from call to call, whatever the question holds then.
        """
        ...


def probes_of(p: LshParameters, ops: Operations) -> Probes:
    """How the parameters choose buckets."""
    return DirectedProbes(p, ops) if p.probing.kind == "directed" else FixedProbes(p, ops)


def probed_now(probes: Probes, q: torch.Tensor, planes: torch.Tensor) -> tuple[torch.Tensor, InclusionLaw]:
    """The buckets of q [B, H, d] on the host, and their law."""
    question = torch.empty(*q.shape[:2], *probes.shape, dtype=probes.dtype, device=q.device)
    probes.ask(q, planes, question)
    find, codes, law = probes.answer(question.cpu())
    find()
    return codes, law


class FixedProbes:
    """The same places around every query: its own bucket, or all within a Hamming radius. They are the question."""

    dtype = torch.uint16

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        self._p, self._family = p, family_of(p, ops)
        masks = probe_masks(p.K, p.probing.ball).astype("uint16")
        self._masks = torch.from_numpy(masks.view("int16").copy())  # torch has few operations on unsigned numbers
        self._law = law_of(p)
        self.shape = (p.L, len(masks))

    def ask(self, q: torch.Tensor, planes: torch.Tensor, question: torch.Tensor) -> None:
        B, H, d = q.shape
        self._masks = self._masks.to(q.device)
        codes = torch.empty(1, self._p.L, B * H, dtype=torch.uint16, device=q.device)
        self._family.hash(q.reshape(1, B * H, d), planes, None, codes)
        own = codes.view(torch.int16)[0].T[..., None]  # [B*H, L, 1]
        torch.bitwise_xor(own, self._masks, out=question.view(torch.int16).flatten(0, 1))

    def answer(self, question: torch.Tensor) -> tuple[Callable[[], None], torch.Tensor, InclusionLaw]:
        return _nothing, question, self._law


def _nothing() -> None:
    pass


class DirectedProbes:
    """The buckets that the query came closest to falling into; its margins are the question.

    The projections are a plain product in float32: hash_codes keeps signs only, and there are few queries. Own
    codes come from the same projections as the probes, so that the law holds for the buckets visited even where
    rounding decides a bit.
    """

    dtype = torch.float32

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        self._p, self._ops = p, ops
        self.shape = (p.L, p.K)

    def ask(self, q: torch.Tensor, planes: torch.Tensor, question: torch.Tensor) -> None:
        unit = torch.nn.functional.normalize(q.float(), dim=-1)  # a zero query stays zero
        question.view(-1, planes.shape[1]).copy_(unit.flatten(0, 1) @ planes)  # a product may read what it writes

    def answer(self, question: torch.Tensor) -> tuple[Callable[[], None], torch.Tensor, InclusionLaw]:
        p, (B, H) = self._p, question.shape[:2]
        codes = torch.empty(B, H, p.L, p.probing.amount, dtype=torch.uint16)
        log_u = torch.empty(B * H, TABLE_CELLS + 1)
        find = self._ops.repeated("direct_probes", question, codes, log_u, min_hits=p.min_hits)
        return find, codes, DirectedLaw(question, codes, log_u, p.min_hits)
