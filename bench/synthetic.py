"""Keys and queries for shapes without weights, calibrated so that tables sample as many as the paper's did.

Rates only: no error figure may come from them.
"""

from __future__ import annotations

import torch

from truffle.bench.workloads import Workload
from truffle.model.config import ModelShape
from truffle.model.weights import Weights, random_weights

# Standard deviation of the cosine of a query and a centred key. With the mean that centring leaves, zero, it
# reproduces the 30 sampled fractions of MagicPIG's Table 9 within 6.2% rms, as N(-0.01, 0.115) does.
COSINE_DEVIATION = 0.1075


def largest_deviation(head_dim: int) -> float:
    """Of the cosines that keys and queries of this kind can have."""
    return (2.0 / head_dim) ** 0.5


def spectrum(head_dim: int, deviation: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard deviations of key and query coordinates, [d] each.

    For independent Gaussian keys and queries with variances ``1 ± a`` and ``1 ± b`` on the one half of the
    coordinates and on the other, the cosine has variance ``(1 + a b) / d``: `a b` is set so that it is deviation^2;
    None is COSINE_DEVIATION. The two coordinates that RoPE turns together are in the same half, so that turning changes
    nothing.
    """
    deviation = COSINE_DEVIATION if deviation is None else deviation
    product = deviation**2 * head_dim - 1.0
    if abs(product) >= 1.0:
        raise ValueError(f"head_dim: expected one that allows the calibrated cosines (1 to 172), got {head_dim}")
    amount = abs(product) ** 0.5
    signs = torch.ones(head_dim)
    signs.view(2, -1)[:, head_dim // 4 :] = -1.0
    keys = (1.0 + amount * signs).sqrt()
    queries = (1.0 + (amount if product > 0 else -amount) * signs).sqrt()
    return keys, queries


def keys_and_values(
    kv_heads: int, n: int, head_dim: int, seed: int, dtype: torch.dtype, deviation: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys around a common offset, and values, [Hkv, n, d] each."""
    generator = torch.Generator().manual_seed(seed)
    deviations, _ = spectrum(head_dim, deviation)
    keys = torch.empty(kv_heads, n, head_dim, dtype=dtype)
    values = torch.empty_like(keys)
    for head in range(kv_heads):  # one head at a time: float32 for all of them would double the memory
        offset = 3.0 * torch.randn(head_dim, generator=generator)
        keys[head] = torch.randn(n, head_dim, generator=generator) * deviations + offset
        values[head] = torch.randn(n, head_dim, generator=generator)
    return keys, values


def queries(
    batch: int, heads: int, head_dim: int, seed: int, dtype: torch.dtype, deviation: float | None = None
) -> torch.Tensor:
    """Independent queries, [B, H, d]."""
    generator = torch.Generator().manual_seed(seed)
    _, deviations = spectrum(head_dim, deviation)
    return (torch.randn(batch, heads, head_dim, generator=generator) * deviations).to(dtype)


def weights(shape: ModelShape, device: str, dtype: torch.dtype, deviation: float | None = None) -> Weights:
    """Random weights whose queries are spread as `queries` are: normalised states give unit normal projections."""
    made = random_weights(shape, 0, device, dtype)
    _, deviations = spectrum(shape.head_dim, deviation)
    for layer in made.layers:
        rows = layer.qkv[: shape.heads * shape.head_dim].view(shape.heads, shape.head_dim, -1)
        rows.mul_(deviations[:, None].to(device, dtype))
    return made


def material(workload: Workload, device: str, dtype: torch.dtype) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    """Weights on the device, and the keys and values [Hkv, context, d] on the host that every layer has read."""
    shape = workload.shape
    pair = keys_and_values(shape.kv_heads, workload.context, shape.head_dim, 0, dtype, workload.deviation)
    return weights(shape, device, dtype, workload.deviation), *pair
