"""direct_probes in C++: probes by counting ranks; the law at 64 agreements, one in each lane, interpolated."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.isa import ISAS, PINNING, native, resolve
from truffle.kernels.law_knots import law_knots
from truffle.kernels.probe_sets import probe_sets
from truffle.kernels.registry import implements


@implements("direct_probes", "cpu_native", Needs(isas=ISAS, pinning=PINNING))
def direct_probes(
    margins: torch.Tensor,
    query_codes: torch.Tensor,
    log_u: torch.Tensor,
    *,
    min_hits: int = 2,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    sets = probe_sets(margins.shape[-1], query_codes.shape[-1])
    knots = law_knots()
    native.direct_probes(
        margins, sets, knots.tails, knots.weights, query_codes, log_u, min_hits, threads, resolve(isa), pinning
    )
