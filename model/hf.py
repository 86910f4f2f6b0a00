"""Truffle in transformers: importing this registers attention "truffle" and the cache that goes with it.

    import truffle.model.hf
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="truffle")
    model.generate(**inputs, past_key_values=TruffleCache(model.config, tuned="tuned.json"))

Prompts are read exactly; a token a step is decoded by the layers that the reference decoder has (methods/base.py), so
everything a DecodeConfig says holds. Without `past_key_values`, `generate` makes the cache that the entry `truffle` of
its generation config describes, or else that of `model.config`: a DecodeConfig in JSON, as generation_config.json or
config.json have it. Where there is none, it is the paper's default.

Any decoder works whose layers attend causally to everything, with RoPE applied before. Rows of a batch may be padded;
padding is never cached. A cache that has been decoded takes further prompts too, token by token. What cannot be done is
refused by name: sliding windows, models with an attention of their own, beam search, assisted generation, guidance,
crop, compiled or paged caches, prefill in chunks, dtypes other than float32 and bfloat16.
"""

from __future__ import annotations

from transformers import AttentionInterface, AttentionMaskInterface, GenerationMixin

from truffle.model.hf_attention import attend, new_tokens
from truffle.model.hf_cache import TruffleCache
from truffle.model.hf_generate import PREPARE, with_default_cache
from truffle.model.hf_settings import NAME

__all__ = ["NAME", "TruffleCache"]

AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, new_tokens)
setattr(GenerationMixin, PREPARE, with_default_cache(getattr(GenerationMixin, PREPARE)))
