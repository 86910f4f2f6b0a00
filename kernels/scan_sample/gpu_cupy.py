"""scan_sample as CUDA kernels, compiled by NVRTC through CuPy: gpu_triton's six stages, over the same scratch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from truffle.kernels import cupy_support, scan_priority, scan_scratch
from truffle.kernels.codes import Codes
from truffle.kernels.contract import Needs
from truffle.kernels.cupy_support import launch, stream
from truffle.kernels.registry import implements
from truffle.kernels.scan_scratch import Scratch

SOURCE = Path(__file__).with_name("scan_sample.cu")
THREADS = 128
MOST_MEMBERS = 8  # heads of a group that a block estimates


@implements("scan_sample", "gpu_cupy", Needs(packages=("cupy",), device="cuda", extra="gpu"))
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
    grid, stride = (s.parts, R, B), s.scores.shape[-1]
    module = _module(q, codes[0], H // R, priority)
    drawn, random = (s.proposals, s.cuts, lengths, step), (np.uint64(seed), layer, stride)
    with torch.cuda.device_of(q), stream(q.device):
        _estimate(q, codes, lengths, scale, H // R, priority, s)
        launch(module, "propose", grid, THREADS, s.scores, s.peaks, s.sums, lengths, s.proposals, s.bins, stride)
        if priority:
            scan_priority.lift_least(wanted, lengths, H // R, floor, s.cuts)
            lifted = torch.empty_like(s.proposals)
            launch(module, "lift", grid, THREADS, *drawn, lifted, *random)
            scan_priority.cut_at(lifted, wanted, lengths, s.cuts)
        else:
            tried = s.proposals, s.bins, wanted, lengths, s.certain, s.rest, stride
            launch(module, "try_candidates", grid, THREADS, *tried)
        found = wanted, floor, s.certain, s.rest, s.counts
        launch(module, "count_drawn", grid, THREADS, *drawn, *found, *random)
        outputs = ids, log_weight, count, *random, ids.shape[1]
        launch(module, "write_drawn", grid, THREADS, *drawn, s.counts, *outputs)


def _estimate(
    q: torch.Tensor,
    codes: Sequence[Codes],
    lengths: torch.Tensor,
    scale: float,
    heads: int,
    priority: bool,
    s: Scratch,
) -> None:
    """Scores of all requests, and each part's largest and sum."""
    (B, H, _), held = q.shape, (s.queries, s.corrections, s.factors)
    module = _module(q, codes[0], heads, priority)
    launch(module, "quantise_query", (B * H,), THREADS, q, *held, s.bins, np.float32(scale))
    for b, one in enumerate(codes):
        Hkv, blocks = one.words.shape[:2]
        grid = (s.parts, Hkv * -(-H // Hkv // MOST_MEMBERS))
        left = lengths, s.scores, s.peaks, s.sums, b, blocks, s.scores.shape[-1], H
        launch(_module(q, one, heads, priority), "estimate", grid, THREADS, one.words, one.scales, *held, *left)


def _module(q: torch.Tensor, codes: Codes, heads: int, priority: bool) -> Any:
    group = q.shape[1] // codes.words.shape[0]
    return cupy_support.compiled(SOURCE, options(codes.head_dim, codes.bits, group, heads, priority), q.device.index)


def options(d: int, bits: int, group: int, heads: int, priority: bool) -> tuple[str, ...]:
    """What NVRTC is told: head dimension, bits, query heads of a key/value head and of a row, and how to draw."""
    shared = ("MOST_PARTS", "PART_TOKENS", "BINS", "LOWEST_BIN", "FRACTION_BITS", "CANDIDATES")
    macros = {name: getattr(scan_scratch, name) for name in shared}
    own = {"D": d, "W": -(-bits * d // 32), "BITS": bits, "GROUP": group, "HEADS": heads, "PRIORITY": int(priority)}
    return cupy_support.options(**own, **macros)
