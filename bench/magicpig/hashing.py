"""How MagicPIG v0.2 hashes keys on the GPU: a product, a comparison, and a half-precision product with powers of two.

Written from its description (attnserver.py, 265 to 270); needs a CUDA device, not its extensions.
"""

from __future__ import annotations

from functools import partial

import torch

from truffle.bench.arguments import arguments_of
from truffle.bench.contender import PASSED, Call, Contender
from truffle.bench.layer_data import LayerData
from truffle.kernels import registry

NAME = "magicpig_torch"
LEAST_EQUAL_BITS = 0.995  # its projections are rounded to bfloat16


def why_not() -> str | None:
    """Why it cannot run here."""
    return None if torch.cuda.is_available() else "needs a CUDA device"


def contender(data: LayerData) -> Contender:
    """Its contender, after its gate."""
    reason = why_not()
    verdict = f"unusable: {reason}" if reason else _judged()
    return Contender(NAME, "auto", verdict, partial(_call, data), "cuda")


def codes_of(x: torch.Tensor, planes: torch.Tensor, center: torch.Tensor, K: int) -> torch.Tensor:
    """Codes [R, n, L] int16 of x [R, n, d] bfloat16, planes [d, L*K] in its dtype."""
    bits = torch.matmul(x - center[:, None], planes) > 0
    powers = 2 ** torch.arange(K, device=x.device, dtype=torch.float16)
    return torch.matmul(bits.unflatten(-1, (-1, K)).half(), powers).to(torch.int16)


def _call(data: LayerData) -> Call:
    arguments = arguments_of("hash_codes", data)
    x, planes, center = (arguments[name].cuda() for name in ("x", "planes", "center"))
    planes, center = planes.to(x.dtype), center.to(x.dtype)

    def call() -> None:
        for row in range(len(x)):  # a head at a time, as it does
            codes_of(x[row : row + 1], planes, center[row : row + 1], arguments["K"])

    return call


def _judged() -> str:
    contract = registry.contract("hash_codes")
    case = next(case for case in contract.cases if case.name == "bf16")
    want = contract.arguments(case)
    registry.get("hash_codes", "reference")(**want)
    x, planes, center = (want[name].cuda() for name in ("x", "planes", "center"))
    got = codes_of(x, planes.to(x.dtype), center.to(x.dtype), want["K"]).cpu()
    wrong = got.transpose(1, 2).int() ^ want["codes"].int()
    flipped = sum(int((wrong >> bit & 1).sum()) for bit in range(want["K"]))
    share = 1 - flipped / (wrong.numel() * want["K"])
    return PASSED if share >= LEAST_EQUAL_BITS else f"failed: {share:.2%} of the bits are the reference's"
