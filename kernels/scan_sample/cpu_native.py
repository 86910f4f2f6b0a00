"""scan_sample in C++: a thread takes a key/value head from codes to its sample, multiplying bytes where it can."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from truffle.kernels.codes import Codes
from truffle.kernels.contract import Needs
from truffle.kernels.handles import expect_whole_codes
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.registry import implements


@implements("scan_sample", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
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
    handles = [native_codes(held) for held in codes]
    how = (scale, seed, layer, draw == "priority", threads, resolve(isa), pinning)
    native.scan_sample(q, handles, lengths, wanted, floor, step, ids, count, log_weight, *how)


def native_codes(codes: Codes) -> native.Codes:
    """The codes' native handle, made once and kept beside their fields."""
    handle = codes.__dict__.get("_native")
    if handle is None:
        expect_whole_codes(codes, "codes")
        handle = native.Codes(codes.words, codes.scales, codes.length, codes.head_dim, codes.bits)
        codes.__dict__["_native"] = handle
    return handle
