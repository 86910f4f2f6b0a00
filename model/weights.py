"""Weights of Llama-type models, loaded from safetensors or GGUF, or random from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from truffle.model.checkpoint import ModelError, read_end_tokens, read_safetensors, read_shape, read_tokenizer
from truffle.model.config import ModelShape
from truffle.model.gguf import EMBEDDED, converted_gguf, embedded_gguf


@dataclass(frozen=True)
class LayerWeights:
    """One block. Linear weights are [out, in]; query, key and value, and gate and up, are stacked."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    out: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True)
class Weights:
    """All weights of a decoder."""

    embedding: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """What they are."""
        return self.embedding.dtype


@dataclass(frozen=True)
class LoadedModel:
    """A model read from disk. `folder` holds its tokenizer; `end_tokens` end a request."""

    id: str
    shape: ModelShape
    weights: Weights
    folder: Path
    end_tokens: frozenset[int]

    def tokenizer(self) -> Any:
        """The model's own tokenizer, from its folder; ModelError where there is none."""
        return read_tokenizer(self.folder)


def load(model: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load ``"smollm2"``, a folder with config.json and safetensors, or a .gguf file.

    Raises:
        ModelError: nothing is there, it is broken, or it is not a Llama-type model.
    """
    path = embedded_gguf() if model == EMBEDDED else Path(model)
    if path.is_file() and path.suffix == ".gguf":
        path = converted_gguf(path)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"model: expected {EMBEDDED!r}, a folder with config.json and safetensors, or a .gguf file, got {model!r}"
        )
    shape = read_shape(path / "config.json")
    weights = assemble(shape, read_safetensors(path), device, dtype)
    return LoadedModel(model, shape, weights, path, read_end_tokens(path))


def assemble(shape: ModelShape, tensors: dict[str, torch.Tensor], device: str, dtype: torch.dtype) -> Weights:
    """Weights from tensors under their transformers names."""

    def take(*names: str) -> torch.Tensor:
        missing = [name for name in names if name not in tensors]
        if missing:
            raise ModelError(f"weights: expected a tensor named {missing[0]}, found none")
        return torch.cat([tensors[name] for name in names]).to(device, dtype)

    def layer(index: int) -> LayerWeights:
        block = f"model.layers.{index}."
        attention, mlp = block + "self_attn.", block + "mlp."
        return LayerWeights(
            attention_norm=take(block + "input_layernorm.weight"),
            qkv=take(*(f"{attention}{name}_proj.weight" for name in "qkv")),
            out=take(attention + "o_proj.weight"),
            mlp_norm=take(block + "post_attention_layernorm.weight"),
            gate_up=take(mlp + "gate_proj.weight", mlp + "up_proj.weight"),
            down=take(mlp + "down_proj.weight"),
        )

    embedding = take("model.embed_tokens.weight")
    head = embedding if shape.tied_embeddings else take("lm_head.weight")
    layers = tuple(layer(index) for index in range(shape.layers))
    return Weights(embedding, layers, take("model.norm.weight"), head)


def random_weights(
    shape: ModelShape, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Weights:
    """Seeded Gaussian weights, scaled so that activations keep their size."""
    generator = torch.Generator(device).manual_seed(seed)

    def linear(out: int, into: int) -> torch.Tensor:
        weight = torch.empty(out, into, device=device, dtype=dtype)
        return weight.normal_(0.0, into**-0.5, generator=generator)

    def norm() -> torch.Tensor:
        return torch.ones(shape.hidden, device=device, dtype=dtype)

    attention = shape.heads * shape.head_dim
    stacked = attention + 2 * shape.kv_heads * shape.head_dim
    layers = tuple(
        LayerWeights(
            attention_norm=norm(),
            qkv=linear(stacked, shape.hidden),
            out=linear(shape.hidden, attention),
            mlp_norm=norm(),
            gate_up=linear(2 * shape.intermediate, shape.hidden),
            down=linear(shape.hidden, shape.intermediate),
        )
        for _ in range(shape.layers)
    )
    embedding = linear(shape.vocabulary, shape.hidden)
    head = embedding if shape.tied_embeddings else linear(shape.vocabulary, shape.hidden)
    return Weights(embedding, layers, norm(), head)
