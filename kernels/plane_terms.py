"""Hyperplanes as kernels on tensor cores take them: sums of bfloat16 numbers, laid out once for a tensor of planes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

EXACT_TERMS = 3  # 8 bits of mantissa each hold float32's 24

_made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def terms(planes: torch.Tensor) -> torch.Tensor:
    """Planes [d, L*K] float32 as [T, d, L*K] bfloat16 that add up to them: one term where it is enough, else three.

    Waits for the device.
    """
    high = planes.bfloat16()
    rest = planes - high.float()
    if not rest.any():
        return high[None]
    middle = rest.bfloat16()
    return torch.stack([high, middle, (rest - middle.float()).bfloat16()])


def blocks(parts: torch.Tensor, group: int, columns: int, wide: int) -> torch.Tensor:
    """Parts [T, d, C] as [groups, T, columns, wide], contiguous: `group` columns a block, padded with zeros."""
    T, d, C = parts.shape
    groups = -(-C // group)
    padded = parts.new_zeros(T, groups * group, d)
    padded[:, :C] = parts.transpose(1, 2)
    found = parts.new_zeros(groups, T, columns, wide)
    found[:, :, :group, :d] = padded.unflatten(1, (groups, group)).transpose(0, 1)
    return found


def once(planes: torch.Tensor, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gives, kept under `key` for as long as `planes` live and are not written to."""
    version = 0 if planes.is_inference() else planes._version
    held = _made.get(planes)
    if held is None or held[0] != version:
        held = _made[planes] = version, {}
    if key not in held[1]:
        held[1][key] = make()
    return held[1][key]
