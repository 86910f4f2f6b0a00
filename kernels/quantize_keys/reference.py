"""quantize_keys in plain torch, float64."""

import torch

from truffle.kernels.contract import Needs
from truffle.kernels.quantize_keys.contract import LARGEST, SMALLEST, STEPS
from truffle.kernels.registry import implements


@implements("quantize_keys", "reference", Needs(device="any"))
def quantize_keys(
    keys: torch.Tensor,
    center: torch.Tensor,
    rotation: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    *,
    start: int,
    bits: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    turned = (keys.double() - center.double()[:, None]) @ rotation.double()  # [R, n, d]
    squares = turned.square().sum(-1, keepdim=True)
    known = (squares >= SMALLEST) & (squares <= LARGEST)
    turned = torch.where(known, turned, 0.0)
    step = torch.where(known, STEPS[bits] * (squares / keys.shape[-1]).sqrt(), 1.0)
    codes = ((turned / step).floor() + 2**bits // 2).clamp(0, 2**bits - 1).long()
    levels = 2 * codes - (2**bits - 1)
    scale = torch.where(known[..., 0], squares[..., 0] / (turned * levels).sum(-1), 0.0)
    tokens = torch.arange(start, start + keys.shape[1], device=keys.device)
    words[:, tokens // 64, :, tokens % 64] = _packed(codes, bits, words.shape[2]).to(torch.int32).transpose(0, 1)
    scales[:, tokens // 64, tokens % 64] = scale.bfloat16()


def _packed(codes: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Words [R, n, W] int64, those of 32 bits as signed numbers."""
    fields = 32 // bits
    padded = torch.nn.functional.pad(codes, (0, count * fields - codes.shape[-1])).unflatten(-1, (count, fields))
    shifts = [8 * (place % 4) + bits * (place // 4) for place in range(fields)]
    words = (padded << torch.tensor(shifts, device=codes.device)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words)
