"""A Llama decoder in plain torch: exact prefill, then one token a step through the layers' caches."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right

from truffle.kernels.waiting import set_wait_policy
from truffle.model.background import Later, beside
from truffle.model.config import DecodeConfig, Llama3RopeScaling, ModelShape
from truffle.model.methods.base import LayerCache
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations
from truffle.model.pipeline import Pipeline
from truffle.model.weights import LayerWeights, Weights

PREFILL_CHUNK = 2048

Turn = tuple[torch.Tensor, torch.Tensor]

# Called after a layer has decoded: layer index, its cache, q [B, H, d], keys and values [B, Hkv, d] of the
# new token, and the attention output [B, H, d].
Observer = Callable[[int, LayerCache, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]


class Decoder:
    """Decodes a batch of requests.

    Attributes:
        caches: one LayerCache a layer.
        lengths: tokens seen, by request.
        observer: if set, called for every layer of every step; nothing is captured then.
        pipeline: the lanes of the last step, None where the next one makes its own.
        beside: opens what takes the host's work while the device reads prompts (background.py).
    """

    def __init__(self, shape: ModelShape, weights: Weights, config: DecodeConfig) -> None:
        self.shape, self.weights, self.config = shape, weights, config
        set_wait_policy(config.execution.wait_policy)  # the process's: the last decoder made decides
        self.ops = Operations(config, weights.device.type)
        self.caches = layer_caches(shape, config, self.ops)
        self.lengths: list[int] = []
        self.observer: Observer | None = None
        self.pipeline: Pipeline | None = None
        self.beside = partial(beside, weights.device)
        self._frequencies = rope_frequencies(shape).to(weights.device)

    @torch.inference_mode()
    def prefill(self, prompts: list[torch.Tensor]) -> torch.Tensor:
        """Read whole prompts, one int64 [n] a request, n >= 1; returns the logits after each, [B, vocabulary].

        Forgets the requests there are. Goes through the model layer by layer: the host stores and indexes a sampled
        layer's keys while the device computes the next, so that those of three layers are on the device at most.
        """
        self.lengths = []
        return self.admit(prompts)

    @torch.inference_mode()
    def admit(self, prompts: list[torch.Tensor]) -> torch.Tensor:
        """Read whole prompts that join the running batch, behind its requests; returns the logits after each."""
        if not prompts or any(len(prompt) == 0 for prompt in prompts):
            raise ValueError("prompts: expected at least one, each of at least one token")
        self.pipeline = None
        hidden = [F.embedding(prompt.to(self.weights.device), self.weights.embedding) for prompt in prompts]
        with self.beside() as later:
            for weights, cache in zip(self.weights.layers, self.caches, strict=True):
                self._read(weights, cache, hidden, later)
            logits = self.logits(torch.stack([states[-1] for states in hidden]))
        self.lengths = self.lengths + [len(prompt) for prompt in prompts]
        return logits

    def _read(self, weights: LayerWeights, cache: LayerCache, hidden: list[torch.Tensor], later: Later) -> None:
        pairs = [self._prefill_layer(weights, states) for states in hidden]
        take = cache.admit if self.lengths else cache.prefill
        take([keys for keys, _ in pairs], [values for _, values in pairs], later)

    def _prefill_layer(self, weights: LayerWeights, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run one block over states [n, hidden], in place; returns its keys and values, [Hkv, n, d]."""
        n, shape = states.shape[0], self.shape
        keys = states.new_empty(shape.kv_heads, n, shape.head_dim)
        values = torch.empty_like(keys)
        for start in range(0, n, PREFILL_CHUNK):
            end = min(start + PREFILL_CHUNK, n)
            chunk = states[start:end]
            turn = self.turn(torch.arange(start, end, device=states.device))
            q, new_keys, new_values = (part.transpose(0, 1) for part in self.project(weights, chunk, turn))
            keys[:, start:end], values[:, start:end] = new_keys, new_values
            attended = _causal(q, keys[:, :end], values[:, :end])
            self.finish(weights, chunk, attended.transpose(0, 1))
        return keys, values

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Decode one token a request, int64 [B]; returns the next logits, [B, vocabulary]."""
        moved = [cache.make_room() for cache in self.caches]
        stale = self.pipeline is None or any(moved) or self.pipeline.observed != (self.observer is not None)
        if stale:
            self.pipeline = None  # its memory first
            self.pipeline = Pipeline(self)
        for cache in self.caches:
            cache.count_token()
        assert self.pipeline is not None
        logits = self.pipeline.step(tokens)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    @torch.inference_mode()
    def adopt(self, keys: list[list[torch.Tensor]], values: list[list[torch.Tensor]]) -> None:
        """Start from prompts that were read elsewhere: by layer and request, [Hkv, n, d] each."""
        for cache, layer_keys, layer_values in zip(self.caches, keys, values, strict=True):
            cache.prefill(layer_keys, layer_values)
        self.pipeline = None
        self.lengths = [part.shape[1] for part in keys[0]]

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these, in this order."""
        for cache in self.caches:
            cache.keep(requests)
        self.pipeline = None
        self.lengths = [self.lengths[request] for request in requests]

    def turn(self, positions: torch.Tensor) -> Turn:
        """Cosines and sines of RoPE at positions [n], [n, d/2] float32 each."""
        angles = positions[:, None].float() * self._frequencies
        return angles.cos(), angles.sin()

    def project(
        self,
        weights: LayerWeights,
        states: torch.Tensor,
        turn: Turn,
        q: torch.Tensor | None = None,
        told: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q [n, H, d], keys and values [n, Hkv, d] of states [n, hidden], RoPE applied.

        `q` says where q goes, and `told` where else.
        """
        n, heads, kv_heads, d = len(states), self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        stacked = F.linear(self._normed(states, weights.attention_norm), weights.qkv).unflatten(-1, (-1, d))
        q = stacked.new_empty(n, heads, d) if q is None else q
        keys = stacked.new_empty(n, kv_heads, d)
        self.ops.rotate_heads(stacked, *turn, q, keys, told)
        return q, keys, stacked[:, heads + kv_heads :]

    def finish(self, weights: LayerWeights, states: torch.Tensor, attended: torch.Tensor) -> None:
        """Add output projection and SwiGLU to states [n, hidden], in place; attended [n, H, d] in any dtype."""
        states.addmm_(attended.flatten(1).to(states.dtype), weights.out.T)
        gate_up = F.linear(self._normed(states, weights.mlp_norm), weights.gate_up)
        gated = gate_up.new_empty(len(states), self.shape.intermediate)
        self.ops.swiglu(gate_up, gated)
        states.addmm_(gated, weights.down.T)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Next-token logits, float32 [B, vocabulary], of final states [B, hidden]."""
        return F.linear(self._normed(states, self.weights.norm), self.weights.head).float()

    def _normed(self, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(states)
        self.ops.rms_norm(states, weight, out, epsilon=self.shape.rms_epsilon)
        return out


def rope_frequencies(shape: ModelShape) -> torch.Tensor:
    """Angle per position of each pair of dimensions, [d/2] float32."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequencies = 1.0 / shape.rope_theta**exponents
    return _llama3_scaled(frequencies, shape.rope_scaling) if shape.rope_scaling else frequencies


def _llama3_scaled(frequencies: torch.Tensor, scaling: Llama3RopeScaling) -> torch.Tensor:
    """Llama 3.1's stretch: long wavelengths are divided by `factor`, short ones kept, those between blended."""
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    span = scaling.high_freq_factor - scaling.low_freq_factor
    kept = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def _causal(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Attention of the last rows of a sequence: q [H, m, d] over keys, values [Hkv, n, d], n >= m."""
    # Torch's flash attention aligns this bias by itself, groups included; a mask in memory would rule it out.
    bias = causal_lower_right(q.shape[1], keys.shape[1])
    return F.scaled_dot_product_attention(q[None], keys[None], values[None], bias, enable_gqa=True)[0]
