"""merge_states: attention over disjoint sets of keys, joined."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec
from truffle.kernels.contract import Arguments, Case, OpContract, differs

# Triton's interpreter cuts bfloat16 off where a card rounds.
RELATIVE_RMS = {torch.float32: 1e-5, torch.bfloat16: 5e-3}


def arguments(case: Case) -> Arguments:
    s = case.sizes
    generator = torch.Generator().manual_seed(case.seed)
    P, B, H, d = s["P"], s["B"], s["H"], s["d"]
    outs = torch.randn(P, B, H, d, generator=generator)
    lses = torch.randn(P, B, H, generator=generator) * s.get("spread", 3.0)
    if s.get("empty"):
        outs[0], lses[0] = 0.0, -torch.inf
        outs[:, 0, 0], lses[:, 0, 0] = 0.0, -torch.inf
    out = torch.full((B, H, d), torch.nan, dtype=getattr(torch, s.get("dtype", "float32")))
    return {"outs": outs, "lses": lses, "out": out, "lse": torch.full((B, H), torch.nan)}


def compare(got: Arguments, want: Arguments) -> str | None:
    rounded = differs(got, want, ("out",), RELATIVE_RMS[want["out"].dtype])
    return rounded or differs(got, want, ("lse",), RELATIVE_RMS[torch.float32])


def bytes_moved(arguments: Arguments) -> int:
    return sum(arguments[name].nbytes for name in ("outs", "lses", "out", "lse"))


CONTRACT = OpContract(
    name="merge_states",
    formula="""lse = ln sum_p exp(lses[p]);  out = sum_p exp(lses[p] - lse) outs[p]

    Natural logarithm. Parts with lse = -inf are empty; where all are, out = 0 and lse = -inf.
    Computed in float32; `out` is rounded once to what it is.
    """,
    tensors={
        "outs": TensorSpec("P B H d", ("float32",)),
        "lses": TensorSpec("P B H", ("float32",)),
        "out": TensorSpec("B H d", ("float32", "bfloat16"), output=True),
        "lse": TensorSpec("B H", ("float32",), output=True),
    },
    arguments=arguments,
    check=lambda arguments, sizes: None,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("two", {"P": 2, "B": 2, "H": 8, "d": 64}),
        Case("one", {"P": 1, "B": 1, "H": 1, "d": 80}, seed=1),
        Case("empty", {"P": 3, "B": 2, "H": 3, "d": 64, "empty": True}, seed=2),
        Case("many", {"P": 37, "B": 1, "H": 2, "d": 64, "empty": True}, seed=4),
        Case("rounded", {"P": 2, "B": 2, "H": 4, "d": 128, "dtype": "bfloat16"}, seed=5),
        Case("far_apart", {"P": 2, "B": 1, "H": 4, "d": 128, "spread": 200.0}, seed=3),
    ),
)
