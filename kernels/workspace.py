"""Scratch memory of kernels on a GPU, kept between calls."""

from __future__ import annotations

import functools

import torch


def workspace(device: torch.device, purpose: str, numbers: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Scratch of at least `numbers`, the same for all calls of one purpose on one stream, which follow one another.

    It is never freed: a CUDA graph may hold its address. Sizes are powers of two, so all of a purpose together are
    less than twice the largest.
    """
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return _buffer(device, stream, purpose, 1 << max(0, numbers - 1).bit_length(), dtype)


@functools.cache
def _buffer(device: torch.device, stream: int, purpose: str, numbers: int, dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode(False):  # whoever comes next may not be inferring
        return torch.empty(numbers, dtype=dtype, device=device)


def partial_states(device: torch.device, purpose: str, parts: int, rows: int, d: int) -> tuple[torch.Tensor, ...]:
    """Scratch for attention over `parts` of the keys: out [parts, rows, d] and lse [parts, rows]."""
    buffer = workspace(device, purpose, parts * rows * (d + 1))
    outs, lses = buffer[: parts * rows * d], buffer[parts * rows * d : parts * rows * (d + 1)]
    return outs.view(parts, rows, d), lses.view(parts, rows)
