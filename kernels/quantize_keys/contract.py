"""quantize_keys: a few bits a coordinate of rotated keys, for a scan that proposes which to attend to."""

from __future__ import annotations

import torch

from truffle.kernels.checks import TensorSpec, expect
from truffle.kernels.codes import BITS, BLOCK_TOKENS, unpacked, words_of
from truffle.kernels.contract import Arguments, Case, OpContract
from truffle.kernels.rotation import rotation

# Steps that quantise a Gaussian coordinate of standard deviation 1 with the least error (Max, 1960, table II).
STEPS = {1: 1.596, 2: 0.9957, 4: 0.3352}
SMALLEST, LARGEST = 1e-30, 1e30  # squared norms that float32 can work with
SCALE_RELATIVE = 2.0**-8 + 1e-5  # one unit of bfloat16
SENTINEL = 0x5A5A5A5A


def arguments(case: Case) -> Arguments:
    s = case.sizes
    R, n, d, bits, start = s["R"], s["n"], s["d"], s["bits"], s.get("start", 0)
    generator = torch.Generator().manual_seed(case.seed)
    keys = torch.randn(R, n, d, generator=generator) * s.get("size", 1.0)
    center = torch.randn(R, d, generator=generator)
    if s.get("special"):
        keys[0, 0], keys[0, 1], keys[0, 2], keys[0, 3] = center[0], torch.nan, torch.inf, 1e20
        keys[0, 4, 1:], center[0, 1:] = 0.0, 0.0
    blocks = -(-(start + n) // BLOCK_TOKENS) + s.get("spare", 0)
    return {
        "keys": keys.to(getattr(torch, s.get("dtype", "float32"))),
        "center": center,
        "rotation": torch.from_numpy(rotation(d, case.seed, 0).copy()),
        "words": torch.full((R, blocks, words_of(d, bits), BLOCK_TOKENS), SENTINEL, dtype=torch.int32),
        "scales": torch.full((R, blocks, BLOCK_TOKENS), -1.0, dtype=torch.bfloat16),
        "start": start,
        "bits": bits,
    }


def check(arguments: Arguments, sizes: dict[str, int]) -> None:
    bits, start = arguments["bits"], arguments["start"]
    expect(bits in BITS, "bits", "1, 2 or 4", bits)
    wanted = words_of(sizes["d"], bits)
    expect(sizes["W"] == wanted, "words", f"W = {wanted} words for head_dim {sizes['d']} and {bits} bits", sizes["W"])
    room = sizes["blocks"] * BLOCK_TOKENS - sizes["n"]
    expect(isinstance(start, int) and 0 <= start <= room, "start", f"0 to {room}, for which there is room", start)


def compare(got: Arguments, want: Arguments) -> str | None:
    """Codes may differ only where a coordinate is within rounding of a step's edge; scales must fit the codes."""
    start, n, d, bits = want["start"], want["keys"].shape[1], want["keys"].shape[2], want["bits"]
    outside = torch.ones(got["scales"].shape, dtype=torch.bool).view(len(got["scales"]), -1)
    outside[:, start : start + n] = False
    outside = outside.view(got["scales"].shape)
    if not torch.equal(got["scales"][outside], want["scales"][outside]):
        return "scales of tokens that were there already have changed"
    if not torch.equal(got["words"].transpose(2, 3)[outside], want["words"].transpose(2, 3)[outside]):
        return "words of tokens that were there already have changed"
    codes, wanted = (unpacked(a["words"], d, bits)[:, start : start + n] for a in (got, want))
    turned, magnitude = _turned(want)
    squares = turned.square().sum(-1, keepdim=True)
    known = (squares >= 1.01 * SMALLEST) & (squares <= 0.99 * LARGEST)
    sure = ~((squares >= 0.99 * SMALLEST) & (squares <= 1.01 * LARGEST))  # NaN is: it has no code
    step = STEPS[bits] * (squares / d).sqrt()
    places = turned / step
    near = (places - places.round()).abs() <= (d + 8) * 2.0**-24 * (magnitude / step + 2 ** (bits + 1))
    wrong = (codes != wanted) & (sure | (known & ~near))
    if wrong.any():
        return f"{int(wrong.sum())} codes differ beyond rounding"
    scales = got["scales"].view(len(codes), -1)[:, start : start + n].double()
    if not torch.equal(scales[sure[..., 0]], torch.zeros_like(scales[sure[..., 0]])):
        return "scales of keys without a norm are not zero"
    levels = 2 * codes.double() - (2**bits - 1)
    fitting = squares[..., 0] / (turned * levels).sum(-1)
    error = ((scales / fitting - 1).abs() - 2.0**-20 * (magnitude.amax(-1) / step[..., 0]))[known[..., 0]]
    if error.numel() and not error.max() <= SCALE_RELATIVE:
        return f"scales miss those that fit the codes by {float(error.max()):.2e}, tolerance {SCALE_RELATIVE:.1e}"
    return None


def _turned(arguments: Arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotated keys [R, n, d], and the sizes of what their sums are made of, in float64."""
    keys, center, turn = (arguments[name].double() for name in ("keys", "center", "rotation"))
    return (keys - center[:, None]) @ turn, (keys.abs() + center.abs()[:, None]) @ turn.abs()


def bytes_moved(arguments: Arguments) -> int:
    """Keys and rotation read, codes and scales written."""
    R, n, _ = arguments["keys"].shape
    written = R * n * (4 * arguments["words"].shape[2] + 2)
    return arguments["keys"].nbytes + arguments["rotation"].nbytes + written


CONTRACT = OpContract(
    name="quantize_keys",
    formula="""y = (keys[r, i] - center[r]) rotation;  u_j = clamp(floor(y_j / step) + 2^b / 2, 0, 2^b - 1)
    level_j = 2 u_j - (2^b - 1);  scale = |y|^2 / y.level;  step = STEPS[b] |y| / sqrt(d);  b = bits

    Token i becomes token `start` + i of the words and scales, laid out as codes.py says; all others keep what they
    were. Levels are odd whole numbers, for b = 1 the signs. The scale makes y . (scale * level) = |y|^2, so that the
    estimate of a product is not shrunk (as RaBitQ's, arXiv 2405.12497, section 3.2); it is stored as bfloat16,
    which moves a score by 0.1%. A key whose |y|^2 is NaN, below 1e-30 or above 1e30 has scale 0 and u_j = 2^b / 2.
    """,
    tensors={
        "keys": TensorSpec("R n d", ("float32", "bfloat16")),
        "center": TensorSpec("R d", ("float32",)),
        "rotation": TensorSpec("d d", ("float32",)),
        "words": TensorSpec("R blocks W 64", ("int32",), output=True),
        "scales": TensorSpec("R blocks 64", ("bfloat16",), output=True),
    },
    arguments=arguments,
    check=check,
    compare=compare,
    bytes_moved=bytes_moved,
    cases=(
        Case("one", {"R": 1, "n": 1, "d": 64, "bits": 4}),
        Case("ragged", {"R": 3, "n": 77, "d": 64, "bits": 4, "start": 50, "spare": 1}, seed=1),
        Case("bf16", {"R": 2, "n": 130, "d": 128, "bits": 4, "dtype": "bfloat16"}, seed=2),
        Case("two_bits", {"R": 2, "n": 200, "d": 128, "bits": 2, "start": 1, "dtype": "bfloat16"}, seed=3),
        Case("one_bit", {"R": 2, "n": 64, "d": 64, "bits": 1, "start": 64}, seed=4),
        Case("d80", {"R": 2, "n": 65, "d": 80, "bits": 4}, seed=5),
        Case("d80_two_bits", {"R": 1, "n": 70, "d": 80, "bits": 2, "start": 3}, seed=6),
        Case("d80_one_bit", {"R": 1, "n": 70, "d": 80, "bits": 1, "start": 60}, seed=7),
        Case("d96", {"R": 2, "n": 31, "d": 96, "bits": 4, "dtype": "bfloat16"}, seed=8),
        Case("d96_one_bit", {"R": 1, "n": 63, "d": 96, "bits": 1}, seed=9),
        Case("d18", {"R": 1, "n": 40, "d": 18, "bits": 2}, seed=10),
        Case("none", {"R": 2, "n": 0, "d": 64, "bits": 4, "spare": 1}, seed=11),
        Case("special", {"R": 1, "n": 9, "d": 64, "bits": 4, "special": True}, seed=12),
        Case("special_one_bit", {"R": 1, "n": 9, "d": 64, "bits": 1, "special": True}, seed=13),
        Case("large_keys", {"R": 1, "n": 40, "d": 128, "bits": 4, "size": 1e4}, seed=14),
        Case("small_keys", {"R": 1, "n": 40, "d": 64, "bits": 2, "size": 1e-3}, seed=15),
    ),
)
