"""The files of a transformers checkpoint: a Llama's shape, what ends a request, tensors and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from truffle.model.config import Llama3RopeScaling, ModelShape, one_line

if TYPE_CHECKING:
    import torch


class ModelError(ValueError):
    """A model that cannot be loaded, with the reason in one line."""


def first_line(error: Exception) -> str:
    """What a library's error says, without the advice below it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected a JSON object, got {first_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def read_shape(path: Path) -> ModelShape:
    """The shape behind a transformers config.json.

    Raises:
        ModelError: broken, not a Llama, or a variant whose arithmetic differs.
    """
    config = read_object(path)
    try:
        return _shape(config)
    except ValidationError as error:
        raise ModelError(f"{path}: {one_line(error)}") from error
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def _shape(config: dict[str, Any]) -> ModelShape:
    if config.get("model_type") != "llama":
        raise ModelError(f"model_type: expected 'llama', got {config.get('model_type')!r}")
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise ModelError(f"{key}: expected false, got {config[key]!r}")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"hidden_act: expected 'silu', got {config['hidden_act']!r}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ModelError(f"rope_parameters: expected an object, got {rope!r}")
    heads, hidden = _size(config, "num_attention_heads"), _size(config, "hidden_size")
    return ModelShape(
        layers=_size(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=_size(config, "intermediate_size"),
        heads=heads,
        kv_heads=_size(config, "num_key_value_heads", heads),
        head_dim=_size(config, "head_dim", hidden // heads),
        vocabulary=_size(config, "vocab_size"),
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
        rope_scaling=_rope_scaling(rope),
        rms_epsilon=config.get("rms_norm_eps", 1e-6),
        tied_embeddings=config.get("tie_word_embeddings", False),
        max_positions=_size(config, "max_position_embeddings", 2048),
    )


def _size(config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key) if config.get(key) is not None else default
    if type(value) is not int or value < 1:
        raise ModelError(f"{key}: expected a whole number of at least 1, got {value!r}")
    return value


def _rope_scaling(rope: dict[str, Any]) -> Llama3RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(f"rope_type: expected 'default' or 'llama3', got {kind!r}")
    return Llama3RopeScaling.model_validate({name: rope.get(name) for name in Llama3RopeScaling.model_fields})


def read_end_tokens(folder: Path) -> frozenset[int]:
    """The tokens that end a request, of generation_config.json or else of config.json.

    Raises:
        ModelError: neither an id nor a list of ids.
    """
    names = ("generation_config.json", "config.json")
    found = [read_object(folder / name).get("eos_token_id") for name in names if (folder / name).is_file()]
    end = next((value for value in found if value is not None), [])
    ids = end if isinstance(end, list) else [end]
    if not all(type(token) is int for token in ids):
        raise ModelError(f"{folder}: expected eos_token_id to be an id or a list of ids, got {end!r}")
    return frozenset(ids)


def read_safetensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the safetensors files in a folder, by name.

    Raises:
        ModelError: there is none, or one is broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"model: expected *.safetensors in {folder}, found none")
    for file in files:
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file}: expected a safetensors file, got {first_line(error)}") from error
    return tensors


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in a folder.

    Raises:
        ModelError: there is none that transformers can read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # its parsers raise whatever a broken file leads them to
        raise ModelError(f"{folder}: expected a tokenizer that transformers can read, found none") from error
