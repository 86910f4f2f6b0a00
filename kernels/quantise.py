"""Eight-bit keys and values: signed steps of a size of their own for every vector."""

from __future__ import annotations

import torch

LARGEST_CODE = 127


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [..., d] int8, -127 to 127, and scales [...] float32 of vectors x [..., d].

    The scale is a vector's largest magnitude over 127, and codes are x / scale rounded to the nearest even, so
    that ``|x - scale * code| <= scale / 2`` up to float32's own rounding. A zero vector has scale 0. NaN is kept
    as 0 and infinity as the largest finite magnitude of its vector: what is stored is finite, and a broken
    vector reaches no other through a mean, a norm or a score.
    """
    x = x.float()
    # Torch divides by a number like this on a GPU only; written out, scales are the same on both sides.
    scale = torch.where(x.isfinite(), x, 0.0).abs().amax(-1) * (1 / LARGEST_CODE)
    codes = (x / scale[..., None]).round().nan_to_num(nan=0.0)  # 0 / 0 in a zero vector
    return codes.clamp(-LARGEST_CODE, LARGEST_CODE).to(torch.int8), scale


def dequantise(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The vectors [..., d] float32 that codes [..., d] and scales [...] stand for."""
    return codes * scale[..., None]


def as_stored(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Vectors x [..., d] as a store of `dtype` gives them back: float32 of an int8 store, else `dtype`."""
    return dequantise(*quantise(x)) if dtype == torch.int8 else x.to(dtype)
