"""One synthetic layer with the scores of real ones, so that output errors can be measured at shapes without weights.

Cosines are those of synthetic.py. What a score is worth is as in SmolLM2, of which the constants below are measured
(prose, 4,096 tokens, all layers); its centred scores are nearly normal there, kurtosis 2.9 in the median. But keys come
from no text: sink and window, where real heads have most of their attention, are as any other tokens here, and values
do not go with keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from truffle.bench import synthetic
from truffle.model.config import ModelShape

SCORE_DEVIATIONS = (2.0, 2.5, 2.8, 3.1, 3.4, 3.7, 4.2, 5.3)  # of a head: eighths of the heads, each by its median
GROUP_CORRELATION = 0.75  # of the scores that two query heads of a group give
VALUE_MEAN = 0.37  # of a coordinate, in its deviations


@dataclass(frozen=True)
class ScoredLayer:
    """Keys and values [Hkv, n, d] and the queries [steps, H, d] of the last `steps` tokens, bfloat16."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor

    def exact(self, step: int) -> torch.Tensor:
        """What a step's queries attend to, its own token and all before it, [H, d] float32."""
        n = self.keys.shape[1] - len(self.queries) + step + 1
        grouped = self.queries[step].float().unflatten(0, (len(self.keys), -1))
        outs = [
            (q @ keys[:n].float().T * keys.shape[1] ** -0.5).softmax(-1) @ values[:n].float()
            for q, keys, values in zip(grouped, self.keys, self.values, strict=True)
        ]
        return torch.cat(outs)


def scored_layer(shape: ModelShape, context: int, steps: int, seed: int, correlation: float) -> ScoredLayer:
    """A layer of `context` keys; query heads of a group are alike as far as `correlation` says."""
    keys, values = synthetic.keys_and_values(shape.kv_heads, context, shape.head_dim, seed, torch.bfloat16)
    values += VALUE_MEAN
    shared, own = (
        synthetic.queries(steps, heads, shape.head_dim, seed + offset, torch.float32).unflatten(1, (shape.kv_heads, -1))
        for heads, offset in ((shape.kv_heads, 1), (shape.heads, 2))
    )
    queries = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own
    unit = synthetic.COSINE_DEVIATION * shape.head_dim**0.5  # deviation of the scores of these
    scale = torch.tensor([SCORE_DEVIATIONS[head % len(SCORE_DEVIATIONS)] / unit for head in range(shape.kv_heads)])
    return ScoredLayer((queries * scale[:, None, None]).flatten(1, 2).bfloat16(), keys, values)
