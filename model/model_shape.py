"""Sizes and constants of the models that can be decoded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from truffle.model.schema import Frozen


class Llama3RopeScaling(Frozen):
    """Frequency scaling of Llama 3.1 and later."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class ModelShape(Frozen):
    """Sizes and constants of a Llama-type decoder."""

    architecture: Literal["llama"] = "llama"
    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    vocabulary: int = Field(ge=1)
    rope_theta: float = 10_000.0
    rope_scaling: Llama3RopeScaling | None = None
    rms_epsilon: float = 1e-5
    tied_embeddings: bool = False
    max_positions: int = Field(default=8_192, ge=1)

    @model_validator(mode="after")
    def _groups_are_whole(self) -> ModelShape:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads: expected a multiple of kv_heads = {self.kv_heads}, got {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: expected an even number, got {self.head_dim}")
        return self

    @property
    def parameters(self) -> int:
        """Weights of the model, embeddings included."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * layer + embeddings + self.hidden

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """Keys and values of one token over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes
