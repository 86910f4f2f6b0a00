"""What `generate` does for models with attention "truffle" before it starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from truffle.kernels.checks import expect
from truffle.model.hf_cache import TruffleCache
from truffle.model.hf_settings import NAME

CACHE, PREPARE = "past_key_values", "_prepare_cache_for_generation"


def with_default_cache(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """GenerationMixin's PREPARE, which knows caches by name from a closed list: models with our
    attention get a TruffleCache where none was passed, and are refused what it cannot do before any work is done."""

    @functools.wraps(prepare)
    def prepared(model: Any, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if model.config._attn_implementation == NAME:
            _refuse_unsupported(generation_config)
            if generation_config.use_cache is not False and model_kwargs.get(CACHE) is None:
                model_kwargs[CACHE] = TruffleCache(model.config)
            cache = model_kwargs.get(CACHE)
            expect(isinstance(cache, TruffleCache | None), CACHE, "a TruffleCache, or none", type(cache).__name__)
        return prepare(model, generation_config, model_kwargs, *args, **kwargs)

    return prepared


def _refuse_unsupported(generation_config: Any) -> None:
    for name, fine in (("num_beams", (None, 1)), ("prefill_chunk_size", (None,)), ("cache_implementation", (None,))):
        found = getattr(generation_config, name)
        expect(found in fine, name, f"{fine[-1]} with attention {NAME!r}", found)
