"""Models, caches and settings that attention "truffle" is not for: refused, by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import Cache, DynamicCache, StaticCache

from tests.model.hf_models import generated, prompts, tiny
from truffle.kernels.checks import ArgumentError
from truffle.model.hf import NAME, TruffleCache
from truffle.model.hf_attention import NewTokens, attend
from truffle.model.tuned import TunedFileError

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


def test_encoder_decoders_are_refused():
    with pytest.raises(ArgumentError, match="t5: expected a decoder alone"):
        TruffleCache(transformers.T5Config())


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "magic"}, "method: expected one of dense"),
        ({"parameters": {"K": 99}, "method": "lsh"}, "K: .* got 99"),
        ({"parameters": {"kk": 9}, "method": "lsh"}, "kk"),
        ("tuned.json", "config: .* got 'tuned.json'"),
    ],
)
def test_wrong_settings_are_refused(given: Any, message: str):
    config = tiny().config
    with pytest.raises(ArgumentError, match=message):
        TruffleCache(config, given)
    config.truffle = given
    with pytest.raises(ArgumentError, match=message):
        TruffleCache(config)


def test_settings_come_from_one_place(tmp_path):
    with pytest.raises(ArgumentError, match="tuned: expected None beside decode"):
        TruffleCache(tiny().config, {"method": "dense"}, tuned=tmp_path / "tuned.json")
    with pytest.raises(TunedFileError, match="missing"):
        TruffleCache(tiny().config, tuned=tmp_path / "missing.json")


def test_the_name_is_no_path_to_a_kernel():
    assert "/" not in NAME
    assert SimpleNamespace(name=NAME).name == tiny().config._attn_implementation
