"""Which buckets a query visits in every table, and how likely those are to hold a key."""

from __future__ import annotations

from collections.abc import Callable

import torch

from truffle.kernels.collision import TABLE_CELLS, CollisionLaw, InclusionLaw
from truffle.kernels.directed import DirectedLaw
from truffle.kernels.planes import probe_masks
from truffle.model.config import LshParameters
from truffle.model.operations import Operations

Probes = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, InclusionLaw]]


def probes_of(p: LshParameters, ops: Operations) -> Probes:
    """A function of q [B, H, d] and planes [d, L*K], on one device, that gives the buckets and their law.

    The buckets are [B, H, L, P] uint16 on the host, the query's own first.
    """
    return DirectedProbes(p, ops) if p.probing.kind == "directed" else FixedProbes(p, ops)


class FixedProbes:
    """The same places around every query: its own bucket, or all within a Hamming radius."""

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        self._p, self._ops = p, ops
        self._masks = torch.from_numpy(probe_masks(p.K, p.probing.ball).astype("int32"))
        self._law = CollisionLaw(p.K, p.L, p.min_hits, p.probing.ball)

    def __call__(self, q: torch.Tensor, planes: torch.Tensor) -> tuple[torch.Tensor, InclusionLaw]:
        B, H, d = q.shape
        codes = torch.empty(1, self._p.L, B * H, dtype=torch.uint16, device=q.device)
        self._ops.hash_codes(q.reshape(1, B * H, d).contiguous(), planes, None, codes, K=self._p.K)
        probed = codes.cpu()[0].T.int()[..., None] ^ self._masks
        return probed.view(B, H, self._p.L, -1).to(torch.uint16).contiguous(), self._law


class DirectedProbes:
    """The buckets that the query came closest to falling into.

    The projections are a plain product in float32: hash_codes keeps signs only, and there are few queries. Own
    codes come from the same projections as the probes, so that the law holds for the buckets visited even where
    rounding decides a bit.
    """

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        self._p, self._ops = p, ops

    def __call__(self, q: torch.Tensor, planes: torch.Tensor) -> tuple[torch.Tensor, InclusionLaw]:
        p, (B, H, _) = self._p, q.shape
        unit = torch.nn.functional.normalize(q.float(), dim=-1)  # a zero query stays zero
        margins = (unit @ planes).view(B, H, p.L, p.K).cpu()
        codes = torch.empty(B, H, p.L, p.probing.amount, dtype=torch.uint16)
        log_u = torch.empty(B * H, TABLE_CELLS + 1)
        self._ops.direct_probes(margins, codes, log_u, min_hits=p.min_hits)
        return codes, DirectedLaw(margins, codes, log_u, p.min_hits)
