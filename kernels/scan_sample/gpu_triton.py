"""scan_sample in Triton: six kernels without a wait for the host, each over all requests but for reading their codes.

Queries become whole numbers; codes are estimated; heads' estimates become proposals; a few multipliers are tried; each
part of a row counts its draws; they are written where those of the parts before end. There are programs for all tokens
that codes name; those beyond `lengths` find nothing to do.
"""

from collections.abc import Sequence

import torch

from truffle.kernels import scan_priority
from truffle.kernels.codes import Codes
from truffle.kernels.contract import Needs
from truffle.kernels.registry import implements
from truffle.kernels.scan_scratch import Scratch
from truffle.kernels.scan_triton import draw as drawing
from truffle.kernels.scan_triton.estimate import estimate, quantise_query, query_tiling, tiling
from truffle.kernels.scan_triton.propose import propose, propose_tiling, try_candidates, try_tiling


@implements("scan_sample", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def scan_sample(
    q: torch.Tensor,
    codes: Sequence[Codes],
    lengths: torch.Tensor,
    wanted: torch.Tensor,
    floor: torch.Tensor,
    step: torch.Tensor,
    ids: torch.Tensor,
    count: torch.Tensor,
    log_weight: torch.Tensor,
    *,
    scale: float,
    seed: int = 0,
    layer: int = 0,
    draw: str = "poisson",
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    (B, H, _), R = q.shape, wanted.shape[1]
    s, priority = Scratch.of(q, codes, R), draw == "priority"
    grid, stride, stream = (s.parts, R, B), s.scores.shape[-1], (seed, layer, s.scores.shape[-1])
    options = drawing.tiling()
    with torch.cuda.device_of(q):
        _estimate(q, codes, lengths, scale, H // R, s)
        propose[grid](s.scores, s.peaks, s.sums, lengths, s.proposals, s.bins, stride, **propose_tiling(H // R))
        if priority:
            scan_priority.lift_least(wanted, lengths, H // R, floor, s.cuts)
            lifted = torch.empty_like(s.proposals)
            drawing.lift[grid](s.proposals, s.cuts, lengths, step, lifted, *stream, **options)
            scan_priority.cut_at(lifted, wanted, lengths, s.cuts)
        else:
            try_candidates[grid](s.proposals, s.bins, wanted, lengths, s.certain, s.rest, stride, **try_tiling())
        drawn = s.proposals, s.cuts, lengths, step
        found = wanted, floor, s.certain, s.rest, s.counts
        drawing.count_drawn[grid](*drawn, *found, *stream, PRIORITY=priority, **options)
        outputs = ids, log_weight, count, *stream, ids.shape[1]
        drawing.write_drawn[grid](*drawn, s.counts, *outputs, PRIORITY=priority, **options)


def _estimate(
    q: torch.Tensor, codes: Sequence[Codes], lengths: torch.Tensor, scale: float, heads: int, s: Scratch
) -> None:
    """Scores of all requests, and each part's largest and sum."""
    (B, H, d), words, bits = q.shape, codes[0].words.shape[2], codes[0].bits
    held = s.queries.view(torch.int8), s.corrections, s.factors, s.bins
    quantise_query[(B * H,)](q, *held, scale, heads, **query_tiling(d, s.queries.shape[-1], bits))
    for b, one in enumerate(codes):
        Hkv, blocks = one.words.shape[:2]
        options = tiling(H // Hkv, words, bits)
        grid = (s.parts, Hkv * -(-options["GROUP"] // options["HEADS"]))
        estimate[grid](
            one.words, one.scales, s.queries, s.corrections, s.factors, lengths, s.scores, s.peaks, s.sums,
            b, blocks, s.scores.shape[-1], H, **options,
        )  # fmt: skip
