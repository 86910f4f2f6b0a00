"""Whether MagicPIG's extensions compute what our reference does, but for the deviations that its source shows.

It weights by 1 / (u + 1e-4), where the paper's Eq. 11 has 1 / u, and gives the lse to base 2, of keys centred in
bfloat16. The reference is given such keys and weights, so that only arithmetic is left to tolerate: exp as a cubic in
the fraction of the exponent, 1.7% low at worst and 0.3% rms, and an output rounded to bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.bench.magicpig.layers import Layers, centred_keys, queries, query_codes
from truffle.bench.sizes import Sizes
from truffle.kernels import registry
from truffle.kernels.collision import CollisionLaw
from truffle.kernels.store import Store

LOG_OFFSET = 1e-4
OUT_RELATIVE_RMS = 1e-2
LSE_ABSOLUTE = 2e-2
CONTEXT = 5_000  # the reference loops over heads and tables; this many keys give every head a sample


def check(sizes: Sizes, threads: int) -> str | None:
    """None if samples and attention agree with the reference on a shorter context, else the first disagreement."""
    data = LayerData(replace(sizes, context=min(sizes.context, CONTEXT)), threads)
    layers = Layers.of(data)
    return _samples_differ(layers, data) or _attention_differs(layers, data)


def _samples_differ(layers: Layers, data: LayerData) -> str | None:
    want = arguments_of("retrieve", data)
    registry.get("retrieve", "reference")(**want)
    layers.retrieve(0, query_codes(data, 0))
    return registry.contract("retrieve").compare({"ids": layers.ids, "count": layers.count}, want)


def _attention_differs(layers: Layers, data: LayerData) -> str | None:
    ids, count = layers.found(0, query_codes(data, 0))
    layers.attend(0, queries(data, 0), ids, count)
    out, lse = reference(data, ids, count)
    error = float((layers.out.float() - out).norm() / out.norm().clamp_min(1e-30))
    if not error <= OUT_RELATIVE_RMS:
        return f"out differs by {error:.2e} (relative RMS), tolerance {OUT_RELATIVE_RMS:.0e}"
    shift = float((layers.max_and_lse_log2[1] * math.log(2.0) - lse)[lse > -torch.inf].abs().max())
    if not shift <= LSE_ABSOLUTE:
        return f"lse differs by {shift:.2e}, tolerance {LSE_ABSOLUTE:.0e}"
    return None


def reference(data: LayerData, ids: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Our reference's out [H, d] and natural-log lse [H] over centred keys, with upstream's weights."""
    s = data.sizes
    keys, norms = centred_keys(data)
    store = Store.allocate(s.kv_heads, s.context, s.head_dim, s.dtype)
    store = store.appended(keys, data.keys_and_values[1])
    out, lse = torch.empty(1, s.heads, s.head_dim), torch.empty(1, s.heads)
    registry.get("sparse_attend", "reference")(
        q=data.queries(), stores=[store], ids=ids, count=count, center=None, law=None,
        log_weight=_log_weights(data, keys, norms, ids, count), out=out, lse=lse, scale=s.head_dim**-0.5,
    )  # fmt: skip
    return out[0], lse[0]


def _log_weights(
    data: LayerData, keys: torch.Tensor, norms: torch.Tensor, ids: torch.Tensor, count: torch.Tensor
) -> torch.Tensor:
    """ln(u + 1e-4) of every sampled key, [H, capacity]."""
    s, law = data.sizes, CollisionLaw(data.sizes.K, data.sizes.L)
    found = torch.zeros(ids.shape)
    for head, query in enumerate(queries(data, 0).double()):
        chosen, group = ids[head, : count[head]].long(), head // (s.heads // s.kv_heads)
        cosine = keys[group, chosen].double() @ query / (query.norm() * norms[group, chosen].double())
        inclusion = torch.from_numpy(law.log_inclusion(cosine.numpy())).exp()
        found[head, : len(chosen)] = (inclusion + LOG_OFFSET).log()
    return found
