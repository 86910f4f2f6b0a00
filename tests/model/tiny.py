"""Tiny random Llamas, saved as transformers would save them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from truffle.model.config import ModelShape

SHAPE = ModelShape(layers=3, hidden=48, intermediate=96, heads=6, kv_heads=2, head_dim=16, vocabulary=101)

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def save_tiny_llama(folder: Path, **changes: object) -> LlamaForCausalLM:
    """A seeded 3-layer Llama with groups of 3, saved to `folder`."""
    torch.manual_seed(0)
    settings = {
        "num_hidden_layers": 3,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 101,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
        **changes,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    model.save_pretrained(folder)
    return model
