"""What `generate` does for models with attention "truffle" before it starts."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from transformers.generation.configuration_utils import GenerationMode
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from truffle.kernels.checks import expect
from truffle.model.hf_cache import TruffleCache
from truffle.model.hf_settings import MODEL, NAME, written

CACHE, PREPARE = "past_key_values", "_prepare_cache_for_generation"
_FINE = {  # of a GenerationConfig; the last is what to use instead
    "num_beams": (None, 1),
    "prefill_chunk_size": (None,),
    "cache_implementation": (None,),
    "guidance_scale": (None, 1),
    "output_attentions": (None, False),
}


def with_default_cache(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """GenerationMixin's PREPARE, which knows caches by name from a closed list: models with our
    attention get a TruffleCache where none was passed, and are refused what it cannot do before any work is done."""

    @functools.wraps(prepare)
    def prepared(
        model: Any,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        cache, attention = model_kwargs.get(CACHE), model.config._attn_implementation
        if attention != NAME:
            expect(not isinstance(cache, TruffleCache), CACHE, MODEL, f"one with {attention!r}")
        else:
            _refuse_model(model)
            _refuse_unsupported(generation_config, generation_mode)
            expect(isinstance(cache, TruffleCache | None), CACHE, "a TruffleCache, or none", type(cache).__name__)
            if cache is not None:
                cache.expect_made_for(model.config)
            elif generation_config.use_cache is not False:
                decode = written(generation_config, "generation_config.json")
                model_kwargs[CACHE] = TruffleCache(model.config, decode)
        return prepare(model, generation_config, model_kwargs, generation_mode, *args, **kwargs)

    return prepared


def _refuse_model(model: Any) -> None:
    kind = model.config.model_type
    expect(not getattr(model, "_is_stateful", False), kind, "attention in every layer", "layers with another state")
    modules = (sys.modules.get(part.__module__) for part in {type(part) for part in model.modules()})
    listed = any(getattr(module, "ALL_ATTENTION_FUNCTIONS", None) is ALL_ATTENTION_FUNCTIONS for module in modules)
    expect(listed, kind, "a model that takes its attention from transformers' list", "one with its own alone")


def _refuse_unsupported(generation_config: Any, generation_mode: Any) -> None:
    assisted = generation_mode == GenerationMode.ASSISTED_GENERATION or generation_config.is_assistant
    looked_up = generation_config.prompt_lookup_num_tokens
    name, found = ("prompt_lookup_num_tokens", looked_up) if looked_up else ("assistant_model", "one")
    expect(not assisted, name, f"None with attention {NAME!r}, which takes no guess back", found)
    for name, fine in _FINE.items():
        found = getattr(generation_config, name)
        expect(found in fine, name, f"{fine[-1]} with attention {NAME!r}", found)
