"""Models, caches and settings that attention "truffle" is not for: refused, by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import Cache, DynamicCache, StaticCache

from tests.model.hf_models import cache_for, generated, prompts, tiny
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DenseParameters
from truffle.model.hf import NAME, TruffleCache
from truffle.model.hf_attention import NewTokens, attend
from truffle.model.hf_shape import shape_of

from_5 = pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 does not build them")
SLIDING = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("Mistral", {"sliding_window": 16}, r"mistral: expected full attention.*sliding_window 16"),
        ("Qwen2", SLIDING, r"qwen2: expected layers of full_attention only, got sliding_attention"),
        ("Gemma2", {"head_dim": 16}, r"gemma2: expected layers of full_attention only, got sliding_attention"),
    ],
)
def test_sliding_windows_are_refused(architecture: str, changes: dict[str, Any], message: str):
    model = tiny(architecture, **changes)
    with pytest.raises(ArgumentError, match=message):
        TruffleCache(model.config)
    with pytest.raises(ArgumentError, match=message):
        generated(model, prompts(1, 40), 4)
    with pytest.raises(ArgumentError, match="sliding window"):
        model(prompts(1, 40), use_cache=False)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.T5Config(), "t5: expected a decoder alone, got an encoder-decoder"),
        (transformers.BartConfig(is_encoder_decoder=False), "bart: expected a decoder alone, got an encoder-decoder"),
        (transformers.Qwen3NextConfig(), "qwen3_next: expected layers of full_attention only, got linear_attention"),
        (transformers.DiffLlamaConfig(), "diffllama: expected attention once a layer.*twice for the same keys"),
        (transformers.DogeConfig(), "doge: expected attention once a layer.*got masks of its own"),
        (transformers.JetMoeConfig(), "jetmoe: expected attention once a layer.*got keys that are repeated"),
        (transformers.LlamaConfig(num_hidden_layers=0), "llama: expected a number num_hidden_layers .* got None"),
        (tiny(), r"config: expected a transformers config, such as model\.config, got LlamaForCausalLM"),
        ("folder", r"config: expected a transformers config, such as model\.config, got str"),
    ],
    ids=lambda value: "" if isinstance(value, str) else getattr(value, "model_type", None),
)
def test_other_models_are_refused(config: Any, message: str):
    with pytest.raises(ArgumentError, match=message):
        TruffleCache(config)


@pytest.mark.parametrize("architecture", ["Bloom", "Mpt", "XGLM", "GPTNeoXJapanese"])
def test_models_with_an_attention_of_their_own_are_refused_before_generation_starts(architecture: str):
    model = tiny(architecture)
    kind = model.config.model_type
    with pytest.raises(ArgumentError, match=f"{kind}: expected a model that takes its attention from transformers' li"):
        generated(model, prompts(1, 40), 4)


def test_models_with_states_are_refused_before_generation_starts():
    model = tiny()
    model._is_stateful = True
    with pytest.raises(ArgumentError, match="llama: expected attention in every layer, got layers with another state"):
        generated(model, prompts(1, 40), 4)


@from_5
def test_encoders_are_refused_by_name():
    with pytest.raises(ArgumentError, match=r"bert: expected each token to attend to all before it, got .*is_decoder"):
        generated(tiny("Bert"), prompts(1, 40), 4)


@pytest.mark.parametrize(("architecture", "intermediate"), [("GPT2", 3072), ("OPT", 3072), ("StableLm", 6912)])
def test_sizes_are_read_under_other_names(architecture: str, intermediate: int):
    shape = shape_of(getattr(transformers, f"{architecture}Config")())
    assert shape.intermediate == intermediate


@from_5
@pytest.mark.parametrize(("architecture", "kv_heads"), [("OPT", None), ("StableLm", 2)])
def test_models_that_take_attention_from_the_list_are_not_refused(architecture: str, kv_heads: int | None):
    model, other = (tiny(architecture, each, num_key_value_heads=kv_heads) for each in ("truffle", "sdpa"))
    _, logits = generated(model, prompts(2, 40), 8, past_key_values=cache_for(model, DenseParameters()))
    torch.testing.assert_close(logits, generated(other, prompts(2, 40), 8)[1], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["softcap", "s_aux", "sliding_window"])
def test_attention_of_another_kind_is_refused(name: str):
    q, kv = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)
    with pytest.raises(ArgumentError, match=rf"{name}: expected None \(Linear is not supported\), got 3"):
        attend(torch.nn.Linear(1, 1), q, kv, kv, NewTokens(0, None), **{name: 3})


def test_values_of_another_size_are_refused():
    layer = TruffleCache(tiny().config).layers[0]
    with pytest.raises(ArgumentError, match=r"values: expected \(1, 2, 5, 8\), as the keys, got \(1, 2, 5, 4\)"):
        layer.update(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 4))


@pytest.mark.parametrize("kind", [DynamicCache, StaticCache])
def test_other_caches_are_refused_before_generation_starts(kind: type[Cache]):
    model = tiny()
    room = {"max_cache_len": 50} if kind is StaticCache else {}
    with pytest.raises(ArgumentError, match=f"past_key_values: expected a TruffleCache, or none, got {kind.__name__}"):
        generated(model, prompts(1, 40), 4, past_key_values=kind(config=model.config, **room))


def test_another_cache_that_was_filled_is_refused():
    model, cache = tiny(), DynamicCache(config=tiny().config)
    with torch.no_grad():
        model(prompts(1, 40), past_key_values=cache)
        with pytest.raises(ArgumentError, match="past_key_values: expected a TruffleCache, or none, got another cache"):
            model(prompts(1, 1), past_key_values=cache)


def test_masks_of_four_dimensions_are_refused():
    ids = prompts(1, 8)
    with pytest.raises(ArgumentError, match="attention_mask: expected two dimensions"):
        tiny()(ids, attention_mask=torch.ones(1, 1, 8, 8).tril())


def test_layers_on_several_devices_are_refused():
    layers = TruffleCache(tiny().config).layers
    layers[0].read([torch.zeros(2, 5, 8)], [torch.zeros(2, 5, 8)])
    with pytest.raises(ArgumentError, match="device_map: expected every layer on cpu, got layer 1 on meta"):
        layers[1].read([torch.zeros(2, 5, 8, device="meta")], [torch.zeros(2, 5, 8, device="meta")])


def test_the_name_is_no_path_to_a_kernel():
    assert "/" not in NAME
    assert SimpleNamespace(name=NAME).name == tiny().config._attn_implementation
