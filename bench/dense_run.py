"""An exact run over one text, kept so that any number of methods can be compared with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from truffle.model.config import DecodeConfig, Execution
from truffle.model.generate import Sampler
from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache
from truffle.model.methods.dense import DenseLayer
from truffle.model.weights import LoadedModel


@dataclass(frozen=True)
class LayerStep:
    """What one layer saw and gave at one step: q [1, H, d], keys and values [1, Hkv, d], out [1, H, d]."""

    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    out: torch.Tensor


@dataclass
class DenseRun:
    """A prompt, its continuation, and all that exact decoding of it computed.

    Attributes:
        continuation: int64 [steps]; token t is fed at step t.
        keys, values: of the prompt, by layer, [Hkv, n, d].
        logits: after each fed token, float32 [steps, vocabulary].
        steps: by step and layer.
    """

    prompt: torch.Tensor
    continuation: torch.Tensor
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    logits: torch.Tensor
    steps: list[list[LayerStep]] = field(repr=False)


def run_dense(
    model: LoadedModel, tokens: torch.Tensor, steps: int, threads: int, own: Sampler | None = None
) -> DenseRun:
    """Decode `steps` tokens after a prompt exactly.

    Args:
        tokens: int64 [n + steps]; the last `steps` are the continuation, unless
        own: draws the model's own continuation of the whole of `tokens`, which is taken instead.
    """
    prompt = tokens if own else tokens[: len(tokens) - steps]
    decoder = Decoder(model.shape, model.weights, DecodeConfig(execution=Execution(threads=threads)))
    logits = decoder.prefill([prompt])
    layers = [cache for cache in decoder.caches if isinstance(cache, DenseLayer)]
    contents = [layer.contents(0) for layer in layers]
    recorded: list[list[LayerStep]] = []

    def record(index: int, cache: LayerCache, *seen: torch.Tensor) -> None:
        recorded[-1].append(LayerStep(*(part.clone() for part in seen)))

    decoder.observer = record
    fed, after = [], []
    for step in range(steps):
        token = own(logits) if own else tokens[len(prompt) + step][None]
        recorded.append([])
        logits = decoder.step(token)
        fed.append(token)
        after.append(logits)
    keys, values = ([pair[side] for pair in contents] for side in (0, 1))
    return DenseRun(prompt, torch.cat(fed), keys, values, torch.cat(after), recorded)
