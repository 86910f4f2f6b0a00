"""Tiny random models of transformers' architectures, each with attention "truffle" and with sdpa."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from tests.model.tuned_files import made
from truffle.model import tuned
from truffle.model.config import DecodeConfig, Execution, MethodParameters, ScanParameters
from truffle.model.hf import TruffleCache
from truffle.model.parameters import LshParameters

VOCABULARY = 101
SIZES = {
    "num_hidden_layers": 3,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": None},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Gemma": {"head_dim": 16},
    "Granite": {"attention_multiplier": 0.1},  # a scale of its own
    "Olmo2": {},
    "Phi3": {},
    "Qwen3Moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}


def tiny(architecture: str = "Llama", attention: str = "truffle", **changes: Any) -> PreTrainedModel:
    """A seeded model; those of one architecture have the same weights."""
    config = getattr(transformers, f"{architecture}Config")(**SIZES | ARCHITECTURES.get(architecture, {}) | changes)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return model.eval()


def prompts(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Tokens [rows, length], none of them padding."""
    return torch.randint(1, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def cache_for(model: PreTrainedModel, parameters: MethodParameters) -> TruffleCache:
    """A cache that keeps float32 where the method has a store."""
    stored = isinstance(parameters, LshParameters | ScanParameters)
    execution = Execution(store_format="float32") if stored else Execution()
    return TruffleCache(model.config, DecodeConfig(parameters=parameters, execution=execution))


def generated(model: PreTrainedModel, ids: torch.Tensor, count: int = 64, **kwargs: Any) -> tuple[torch.Tensor, ...]:
    """Greedy new tokens [B, count] and their logits [B, count, vocabulary]."""
    given = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0} | kwargs
    result = model.generate(ids, max_new_tokens=count, return_dict_in_generate=True, output_logits=True, **given)
    return result.sequences[:, ids.shape[1] :], torch.stack(result.logits, dim=1)


def tuned_file(folder: Path, config: DecodeConfig) -> Path:
    """A tuned file with a config, made for an RTX 4090 and Llama 3.1 8B."""
    path = folder / "tuned.json"
    tuned.save(made(config=config), path)
    return path
