"""What a TruffleCache is given is attended once, by attention "truffle" of the model that it was made for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.model.hf_models import cache_for, generated, prompts, tiny
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DenseParameters, LshParameters
from truffle.model.hf import TruffleCache
from truffle.model.hf_attention import NewTokens, attend

MODEL = 'past_key_values: expected a model with attn_implementation="truffle", got '


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_another_attention_is_refused_before_generation_starts(attention: str):
    model = tiny(attention=attention)
    model.get_decoder().layers = None
    with pytest.raises(ArgumentError, match=f"{MODEL}one with '{attention}'"):
        generated(model, prompts(1, 40), 4, past_key_values=cache_for(model, DenseParameters()))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_another_attention_is_refused_where_its_second_pass_would_be_wrong(attention: str):
    model = tiny(attention=attention)
    cache = cache_for(model, DenseParameters())
    with torch.no_grad():
        model(prompts(1, 40), past_key_values=cache)
        with pytest.raises(ArgumentError, match=f"{MODEL}keys that were never attended"):
            model(prompts(1, 1), past_key_values=cache)


def test_a_reset_forgets_keys_that_were_not_attended():
    model, cache = tiny(), cache_for(tiny(), DenseParameters())
    with torch.no_grad():
        tiny(attention="sdpa")(prompts(1, 40), past_key_values=cache)
        cache.reset()
        logits = model(prompts(1, 40), past_key_values=cache).logits
    torch.testing.assert_close(logits, model(prompts(1, 40)).logits)


@pytest.mark.parametrize("before", [0, 5])
def test_attention_twice_for_the_same_keys_is_refused(before: int):
    layer, module = cache_for(tiny(), DenseParameters()).layers[0], torch.nn.Linear(1, 1)
    q, keys, values = torch.zeros(1, 6, 5, 8), torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8)
    attend(module, q, *layer.update(keys, values), NewTokens(0, None))
    if before:
        q, keys, values = q[:, :, :1], keys[:, :, :1].clone(), values[:, :, :1]
        attend(module, q, *layer.update(keys, values), NewTokens(before, None))
    with pytest.raises(ArgumentError, match=r"Linear: expected attention once .*\(Linear is not supported\)"):
        attend(module, q, keys, values, NewTokens(before, None))


OTHERS = [
    ({"num_hidden_layers": 2}, "layers 3 as in the model, got one for 2"),
    ({"num_hidden_layers": 4}, "layers 3 as in the model, got one for 4"),
    ({"num_key_value_heads": 3}, "kv_heads 2 as in the model, got one for 3"),
    ({"head_dim": 16}, "head_dim 8 as in the model, got one for 16"),
]


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_a_cache_made_for_another_model_is_refused_before_generation_starts(changes: dict[str, Any], message: str):
    cache, model = TruffleCache(tiny(**changes).config), tiny()
    model.get_decoder().layers = None
    with pytest.raises(ArgumentError, match=f"past_key_values: expected a cache for {message}"):
        generated(model, prompts(1, 40), 4, past_key_values=cache)


@pytest.mark.parametrize(
    ("changes", "message"), [OTHERS[2], OTHERS[3], ({"num_hidden_layers": 2}, "the model's layers, got one for 2")]
)
def test_a_cache_made_for_another_model_is_refused_where_it_is_filled(changes: dict[str, Any], message: str):
    cache = TruffleCache(tiny(**changes).config)
    with pytest.raises(ArgumentError, match=f"past_key_values: expected a cache for {message}"):
        tiny()(prompts(1, 40), past_key_values=cache)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("parameters", [DenseParameters(), LshParameters()], ids=lambda p: p.method)
def test_other_dtypes_are_refused_at_the_first_layer(dtype: torch.dtype, parameters: Any):
    model = tiny().to(dtype)
    model.get_decoder().layers[1] = None
    with pytest.raises(ArgumentError, match=rf"dtype: expected .*dtype=torch\.bfloat16.*, got {dtype}"):
        model(prompts(1, 40), past_key_values=cache_for(model, parameters))
