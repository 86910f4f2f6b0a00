"""hash_codes: L codes of K sign bits for every vector."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.planes import MAX_BITS, hyperplanes

SENTINEL = 0xFFFF


def arguments(case: Case) -> Arguments:
    s = case.sizes
    generator = torch.Generator().manual_seed(case.seed)
    x = torch.randn(s["R"], s["n"], s["d"], generator=generator)
    center = torch.randn(s["R"], s["d"], generator=generator) if s.get("centred") else None
    if s.get("special"):
        x[0, 0], x[0, 1], x[0, 2] = 0.0, float("nan"), float("inf")
    return {
        "x": x.to(getattr(torch, s.get("dtype", "float32"))),
        "planes": _planes(case),
        "center": center,
        "codes": torch.full((s["R"], s["L"], s["n"]), SENTINEL, dtype=torch.uint16),
        "K": s["K"],
    }


def _planes(case: Case) -> torch.Tensor:
    s = case.sizes
    if not s.get("full_planes"):
        return torch.from_numpy(hyperplanes(s["d"], s["K"], s["L"], case.seed, 0).copy())
    return torch.randn(s["d"], s["K"] * s["L"], generator=torch.Generator().manual_seed(case.seed))


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    K = arguments["K"]
    expect(1 <= K <= MAX_BITS, "K", f"1 to {MAX_BITS} bits a table", K)
    wanted = sizes["L"] * K
    expect(sizes["LK"] == wanted, "planes", f"L*K = {wanted} columns", sizes["LK"])


def compare(got: Arguments, want: Arguments) -> str | None:
    """Bits may differ only where the projection is within float32 rounding of zero."""
    K, L = want["K"], want["codes"].shape[1]
    flipped = got["codes"].int() ^ want["codes"].int()
    if not flipped.any():
        return None
    x = want["x"].double()
    center = torch.zeros_like(x[:, 0]) if want["center"] is None else want["center"].double()
    planes = want["planes"].double()
    projection = (x - center[:, None]) @ planes
    magnitude = (x.abs() + center.abs()[:, None]) @ planes.abs()
    sure = projection.abs() > (x.shape[2] + 2) * 2.0**-24 * magnitude
    bits = (flipped[..., None] >> torch.arange(K)) & 1  # [R, L, n, K]
    wrong = bits.bool() & sure.unflatten(-1, (L, K)).transpose(1, 2)
    return f"{int(wrong.sum())} hash bits differ beyond rounding" if wrong.any() else None


def bytes_moved(arguments: Arguments) -> int:
    return sum(arguments[name].nbytes for name in ("x", "planes", "codes"))


CONTRACT = OpContract(
    name="hash_codes",
    formula="""codes[r, l, i] = sum_j 2^j [ (x[r, i] - center[r]) . planes[:, l*K + j] > 0 ]

    SimHash (MagicPIG, arXiv 2410.16179, section 4.1), centred by the mean key when `center` is given.
    """,
    tensors={
        "x": TensorSpec("R n d", ("float32", "bfloat16")),
        "planes": TensorSpec("d LK", ("float32",)),
        "center": TensorSpec("R d", ("float32",), optional=True),
        "codes": TensorSpec("R L n", ("uint16",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one", {"R": 1, "n": 1, "d": 64, "K": 8, "L": 1}),
        Case("ragged", {"R": 3, "n": 77, "d": 64, "K": 10, "L": 13, "centred": True}, seed=1),
        Case("bf16", {"R": 2, "n": 130, "d": 128, "K": 9, "L": 20, "centred": True, "dtype": "bfloat16"}, 2),
        Case("K1", {"R": 2, "n": 65, "d": 64, "K": 1, "L": 33}, seed=3),
        Case("K16", {"R": 2, "n": 65, "d": 64, "K": 16, "L": 5, "centred": True}, seed=4),
        Case("d80", {"R": 1, "n": 50, "d": 80, "K": 7, "L": 6}, seed=5),
        Case("d16", {"R": 2, "n": 70, "d": 16, "K": 3, "L": 12, "centred": True}, seed=7),
        Case("d32_bf16", {"R": 2, "n": 150, "d": 32, "K": 5, "L": 9, "centred": True, "dtype": "bfloat16"}, seed=8),
        Case("full_planes", {"R": 2, "n": 90, "d": 64, "K": 10, "L": 7, "centred": True, "full_planes": True}, seed=11),
        Case(
            "full_planes_bf16",
            {"R": 2, "n": 347, "d": 80, "K": 11, "L": 9, "centred": True, "full_planes": True, "dtype": "bfloat16"},
            seed=12,
        ),
        Case("many", {"R": 3, "n": 347, "d": 80, "K": 10, "L": 13, "centred": True, "dtype": "bfloat16"}, seed=9),
        Case("many_K16", {"R": 1, "n": 529, "d": 128, "K": 16, "L": 7, "dtype": "bfloat16"}, seed=10),
        Case("special", {"R": 1, "n": 9, "d": 64, "K": 8, "L": 4, "special": True}, seed=6),
    ),
)
