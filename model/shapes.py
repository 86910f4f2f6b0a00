"""Shapes of models that are timed without their weights."""

from __future__ import annotations

from truffle.model.config import Llama3RopeScaling, ModelShape

_LLAMA31_ROPE = Llama3RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)

SHAPES: dict[str, ModelShape] = {
    "llama-3.1-8b": ModelShape(
        layers=32, hidden=4096, intermediate=14336, heads=32, kv_heads=8, head_dim=128, vocabulary=128_256,
        rope_theta=500_000.0, rope_scaling=_LLAMA31_ROPE, max_positions=131_072,
    ),
    "llama-3.1-70b": ModelShape(
        layers=80, hidden=8192, intermediate=28672, heads=64, kv_heads=8, head_dim=128, vocabulary=128_256,
        rope_theta=500_000.0, rope_scaling=_LLAMA31_ROPE, max_positions=131_072,
    ),
    "llama-3.2-1b": ModelShape(
        layers=16, hidden=2048, intermediate=8192, heads=32, kv_heads=8, head_dim=64, vocabulary=128_256,
        rope_theta=500_000.0, rope_scaling=_LLAMA31_ROPE.model_copy(update={"factor": 32.0}),
        tied_embeddings=True, max_positions=131_072,
    ),
    "smollm2": ModelShape(
        layers=30, hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, vocabulary=49_152,
        rope_theta=100_000.0, tied_embeddings=True, max_positions=8_192,
    ),
}  # fmt: skip
