"""direct_probes: the buckets nearest to each query by its own margins, and the law of finding a key in them."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.collision import TABLE_CELLS
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.directed import own_codes
from truffle.kernels.planes import MAX_BITS
from truffle.kernels.probe_sets import MAX_PROBES

SENTINEL = 0xFFFF
MOST_HITS = 3
SCORE_RELATIVE = 1e-6
# ln u is off by no more than LOG_U_ABSOLUTE where it is above NEGLIGIBLE and the agreement between 1/8 and 7/8,
# cosines of -0.92 and 0.92. Nearer to 1 the law of one table has steps narrower than a knot, which many do not.
NEGLIGIBLE = -20.0
LOG_U_ABSOLUTE, NEAR_ONE_ABSOLUTE = 1e-3, 2e-2


def arguments(case: Case) -> Arguments:
    s = case.sizes
    shape = (s["B"], s["H"], s["L"])
    margins = torch.randn(*shape, s["K"], generator=torch.Generator().manual_seed(case.seed))
    margins[0, 0] *= s.get("first_scale", 1.0)
    if s.get("special"):
        margins[0, 0, :, 0] = torch.nan
        margins[0, 1, :, 1] = torch.inf
    return {
        "margins": margins,
        "query_codes": torch.full((*shape, s["P"]), SENTINEL, dtype=torch.uint16),
        "log_u": torch.full((s["B"] * s["H"], TABLE_CELLS + 1), torch.nan),
        "min_hits": s.get("min_hits", 2),
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    K, L, P, min_hits = sizes["K"], sizes["L"], sizes["P"], arguments["min_hits"]
    expect(1 <= K <= MAX_BITS, "margins", f"1 to {MAX_BITS} bits a table", K)
    most = min(MAX_PROBES, 1 << K)
    expect(1 <= P <= most, "query_codes", f"1 to {most} buckets a table", P)
    expect(1 <= min_hits <= min(MOST_HITS, L), "min_hits", f"1 to {min(MOST_HITS, L)}", min_hits)


def compare(got: Arguments, want: Arguments) -> str | None:
    return _compare_probes(got, want) or _compare_laws(got["log_u"], want["log_u"])


def _compare_probes(got: Arguments, want: Arguments) -> str | None:
    """Sets of equal sums may change places."""
    K = want["margins"].shape[-1]
    squares = want["margins"].double().square().nan_to_num(1e18, posinf=1e18)
    own = own_codes(want["margins"])[..., None]
    sums = []
    for side in (got, want):
        flips = (side["query_codes"].int() ^ own)[..., None] >> torch.arange(K) & 1
        sums.append((flips * squares[..., None, :]).sum(-1))
    if (got["query_codes"].int().sort(-1).values.diff(dim=-1) == 0).any():
        return "a table's codes repeat"
    wrong = (sums[0] - sums[1]).abs() > SCORE_RELATIVE * sums[1]
    return f"{int(wrong.sum())} codes are farther or nearer than they should be" if wrong.any() else None


def _compare_laws(got: torch.Tensor, want: torch.Tensor) -> str | None:
    if not (torch.isfinite(got).all() and (got <= 0).all()):
        return "log_u holds numbers that are no logarithms of probabilities"
    cells = torch.arange(TABLE_CELLS + 1) / TABLE_CELLS
    met = torch.maximum(got, want) > NEGLIGIBLE
    error = (got - want).abs().where(met, 0.0)
    for low, high, tolerance in ((1 / 8, 7 / 8, LOG_U_ABSOLUTE), (7 / 8, 1.0, NEAR_ONE_ABSOLUTE)):
        worst = error[:, (cells >= low) & (cells <= high)].max()
        if worst > tolerance:
            return f"log_u differs by {worst:.2e} at agreements from {low} to {high}, tolerance {tolerance}"
    return None


def bytes_moved(arguments: Arguments) -> int:
    return sum(arguments[name].nbytes for name in ("margins", "query_codes", "log_u"))


CONTRACT = OpContract(
    name="direct_probes",
    formula="""query_codes[b, h, l] = own code, then own code with set A flipped, in ascending order of sum_A z_j^2

    where z = margins[b, h, l] are the projections w_j . q / |q| and bit j of the own code is ``z_j > 0`` (Lv et al.
    2007, query-directed probing). log_u[b*H + h, i] is ln Pr(at least `min_hits` of the L tables hold a key in one
    of these buckets) for keys at angle ``theta = pi (1 - i / 4096)``, given z, where bit j of a key differs with
    probability ``Phi(-|z_j| cot theta)``; it is never below -80. A zero query has margins 0 and the same ln u at
    every angle. In the law, margins above 6 and those that are no numbers count as 6; the latter come last.
    """,
    tensors={
        "margins": TensorSpec("B H L K", ("float32",)),
        "query_codes": TensorSpec("B H L P", ("uint16",), output=True),
        "log_u": TensorSpec("B*H 4097", ("float32",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one_bit", {"B": 1, "H": 1, "L": 1, "K": 1, "P": 2, "min_hits": 1}),
        Case("usual", {"B": 1, "H": 2, "L": 12, "K": 12, "P": 8}, seed=1),
        Case("requests", {"B": 2, "H": 3, "L": 9, "K": 7, "P": 3, "min_hits": 1}, seed=2),
        Case("own_only", {"B": 1, "H": 1, "L": 20, "K": 5, "P": 1}, seed=3),
        Case("all_buckets", {"B": 1, "H": 1, "L": 4, "K": 4, "P": 16}, seed=4),
        Case("most_probes", {"B": 1, "H": 1, "L": 4, "K": 16, "P": 64}, seed=5),
        Case("min_hits_3", {"B": 1, "H": 1, "L": 12, "K": 16, "P": 8, "min_hits": 3}, seed=6),
        Case("zero_query", {"B": 1, "H": 2, "L": 6, "K": 8, "P": 4, "first_scale": 0.0}, seed=7),
        Case("special", {"B": 1, "H": 2, "L": 6, "K": 8, "P": 4, "special": True}, seed=8),
    ),
)
