"""rms_norm: rows divided by their root mean square."""

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
    x = (torch.randn(s["n"], s["D"], generator=generator) * s.get("size", 1.0)).to(dtype)
    weight = torch.rand(s["D"], generator=generator).add(0.5).to(dtype)
    return {"x": x, "weight": weight, "out": torch.full_like(x, torch.nan), "epsilon": 1e-5}


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    expect(arguments["epsilon"] > 0, "epsilon", "more than 0", arguments["epsilon"])
    for name in ("weight", "out"):
        found, wanted = arguments[name].dtype, arguments["x"].dtype
        expect(found == wanted, name, f"dtype {wanted} as x", found)


CONTRACT = OpContract(
    name="rms_norm",
    formula="""out = weight * x / sqrt(mean(x^2) + epsilon), over the last axis

    Computed in float32 and rounded once. Root mean square layer normalisation, arXiv 1910.07467, equation 4.
    """,
    tensors={
        "x": TensorSpec("n D", ("float32", "bfloat16")),
        "weight": TensorSpec("D", ("float32", "bfloat16")),
        "out": TensorSpec("n D", ("float32", "bfloat16"), output=True),
    },
    arguments=arguments,
    check=check,
    compare=lambda got, want: differs(got, want, ("out",), RELATIVE_RMS[want["out"].dtype]),
    bytes_moved=lambda arguments: 2 * arguments["x"].nbytes + arguments["weight"].nbytes,
    cases=(
        Case("one_row", {"n": 1, "D": 64}),
        Case("wide", {"n": 3, "D": 4096, "dtype": "bfloat16"}, seed=1),
        Case("odd", {"n": 5, "D": 577}, seed=2),
        Case("tiny", {"n": 2, "D": 48, "size": 1e-4}, seed=3),
        Case("zeros", {"n": 2, "D": 16, "size": 0.0}, seed=4),
        Case("none", {"n": 0, "D": 16}, seed=5),
    ),
)
