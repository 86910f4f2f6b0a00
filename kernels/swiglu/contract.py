"""swiglu: the gated product inside a Llama block's MLP."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.contract import Arguments, Case, OpContract, differs

# Triton's interpreter cuts bfloat16 off where a card rounds.
RELATIVE_RMS = {torch.float32: 1e-6, torch.bfloat16: 5e-3}


def arguments(case: Case) -> Arguments:
    s = case.sizes
    generator = torch.Generator().manual_seed(case.seed)
    dtype = getattr(torch, s.get("dtype", "float32"))
    gate_up = (torch.randn(s["n"], 2 * s["D"], generator=generator) * s.get("size", 1.0)).to(dtype)
    return {"gate_up": gate_up, "out": torch.full((s["n"], s["D"]), torch.nan, dtype=dtype)}


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    expect(sizes["W"] == 2 * sizes["D"], "gate_up", f"rows of twice out's {sizes['D']}", sizes["W"])
    found, wanted = arguments["out"].dtype, arguments["gate_up"].dtype
    expect(found == wanted, "out", f"dtype {wanted} as gate_up", found)


CONTRACT = OpContract(
    name="swiglu",
    formula="""out = g * sigmoid(g) * u,  [g | u] = gate_up

    Computed in float32 and rounded once. GLU variants, arXiv 2002.05202, equation 6.
    """,
    tensors={
        "gate_up": TensorSpec("n W", ("float32", "bfloat16")),
        "out": TensorSpec("n D", ("float32", "bfloat16"), output=True),
    },
    arguments=arguments,
    check=check,
    compare=lambda got, want: differs(got, want, ("out",), RELATIVE_RMS[want["out"].dtype]),
    bytes_moved=lambda arguments: arguments["gate_up"].nbytes + arguments["out"].nbytes,
    cases=(
        Case("one", {"n": 1, "D": 1}),
        Case("wide", {"n": 2, "D": 14336, "dtype": "bfloat16"}, seed=1),
        Case("odd", {"n": 3, "D": 1537}, seed=2),
        Case("large", {"n": 1, "D": 64, "size": 200.0}, seed=3),
        Case("none", {"n": 0, "D": 16}, seed=4),
    ),
)
