"""rotate_heads: rotary positions on the queries and keys of stacked projections."""

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
    n, H, Hkv, d = s["n"], s["H"], s["Hkv"], s["d"]
    angles = torch.rand(n, d // 2, generator=generator) * 6.2831853
    return {
        "stacked": torch.randn(n, H + 2 * Hkv, d, generator=generator).to(dtype),
        "cos": angles.cos(),
        "sin": angles.sin(),
        "q": torch.full((n, H, d), torch.nan, dtype=dtype),
        "keys": torch.full((n, Hkv, d), torch.nan, dtype=dtype),
        "told": torch.full((n, H, d), torch.nan, dtype=dtype) if s.get("told") else None,
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    heads, d = sizes["H"] + 2 * sizes["Hkv"], sizes["d"]
    expect(sizes["A"] == heads, "stacked", f"queries, keys and values of {heads} heads together", sizes["A"])
    expect(d == 2 * sizes["half"], "cos", f"half of d = {d} angles a row", sizes["half"])
    wanted = arguments["stacked"].dtype
    for name in ("q", "keys", "told"):
        found = arguments[name].dtype if arguments[name] is not None else wanted
        expect(found == wanted, name, f"dtype {wanted} as stacked", found)


def compare(got: Arguments, want: Arguments) -> str | None:
    names = ("q", "keys") + (("told",) if want["told"] is not None else ())
    return differs(got, want, names, RELATIVE_RMS[want["q"].dtype])


CONTRACT = OpContract(
    name="rotate_heads",
    formula="""x'[i], x'[i + d/2] = cos_i a - sin_i b, cos_i b + sin_i a,  a, b = x[i], x[i + d/2]

    For the H queries and Hkv keys of a row, stacked before its Hkv values, which stay where they are. Computed in
    float32 and rounded once. `told` is another q, which may be memory of the host's that the device writes over the
    link. RoFormer, arXiv 2104.09864, equation 34, with the pairs that Llama's checkpoints have.
    """,
    tensors={
        "stacked": TensorSpec("n A d", ("float32", "bfloat16")),
        "cos": TensorSpec("n half", ("float32",)),
        "sin": TensorSpec("n half", ("float32",)),
        "q": TensorSpec("n H d", ("float32", "bfloat16"), output=True),
        "keys": TensorSpec("n Hkv d", ("float32", "bfloat16"), output=True),
        "told": TensorSpec("n H d", ("float32", "bfloat16"), output=True, optional=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=lambda arguments: sum(2 * arguments[name].nbytes for name in ("q", "keys", "cos")),
    cases=(
        Case("one_head", {"n": 1, "H": 1, "Hkv": 1, "d": 64}),
        Case("llama", {"n": 2, "H": 32, "Hkv": 8, "d": 128, "dtype": "bfloat16", "told": True}, seed=1),
        Case("odd", {"n": 3, "H": 9, "Hkv": 3, "d": 80}, seed=2),
        Case("narrow", {"n": 7, "H": 4, "Hkv": 2, "d": 2}, seed=3),
        Case("none", {"n": 0, "H": 2, "Hkv": 1, "d": 16}, seed=4),
    ),
)
