"""generate() with attention "truffle": where its cache comes from, and how tokens are chosen."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from tests.model.hf_models import cache_for, generated, prompts, tiny, tuned_file
from truffle.kernels.checks import ArgumentError
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, ScanParameters
from truffle.model.hf import TruffleCache

BLOCK = {"method": "lsh", "parameters": {"K": 4, "L": 20, "sink": 2, "window": 8, "seal_tokens": 16}}


def test_a_saved_model_decodes_as_its_config_says(tmp_path: Path):
    model = tiny()
    model.config.truffle = BLOCK
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="truffle")
    result = loaded.generate(prompts(1, 80), max_new_tokens=4, pad_token_id=0, return_dict_in_generate=True)
    assert result.past_key_values.decode_config == DecodeConfig.model_validate(BLOCK)


OTHER = {"method": "scan", "parameters": {"sink": 2, "window": 8, "seal_tokens": 16}}


def decoded_with(model: PreTrainedModel, **given: Any) -> DecodeConfig:
    """What `generate` decodes with, by the caches that it made."""
    result = model.generate(prompts(1, 80), max_new_tokens=4, pad_token_id=0, return_dict_in_generate=True, **given)
    assert result.past_key_values.caches[1].usage() is not None
    return result.past_key_values.decode_config


def test_a_generation_config_comes_before_the_models_config(tmp_path: Path):
    model = tiny()
    model.config.truffle = BLOCK
    model.save_pretrained(tmp_path)
    GenerationConfig(truffle=OTHER).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="truffle")
    assert decoded_with(loaded) == DecodeConfig.model_validate(OTHER)
    del loaded.generation_config.truffle
    assert decoded_with(loaded) == DecodeConfig.model_validate(BLOCK)


def test_a_generation_config_that_is_given_comes_first():
    model, given = tiny(), GenerationConfig(truffle=OTHER)
    model.config.truffle = model.generation_config.truffle = BLOCK
    assert decoded_with(model, generation_config=given) == DecodeConfig.model_validate(OTHER)


def test_a_wrong_generation_config_says_where_it_stands():
    given = GenerationConfig(truffle={"method": "lsh", "parameters": {"K": 99}})
    with pytest.raises(ArgumentError, match=r"truffle in generation_config\.json: K: .* got 99"):
        decoded_with(tiny(), generation_config=given)


def test_without_settings_it_is_the_papers_default():
    model = tiny()
    result = model.generate(prompts(1, 80), max_new_tokens=4, pad_token_id=0, return_dict_in_generate=True)
    assert result.past_key_values.decode_config.parameters == LshParameters()


def test_a_tuned_file_for_another_card_says_how_to_decode_with_a_warning_that_names_both(tmp_path: Path):
    config = DecodeConfig(parameters=LshParameters(K=4, L=20, sink=2, window=8, seal_tokens=16))
    model = tiny()
    with pytest.warns(UserWarning, match=r"tuned.json: other card: tuned for NVIDIA GeForce RTX 4090.*, here is "):
        cache = TruffleCache(model.config, tuned=tuned_file(tmp_path, config))
    generated(model, prompts(1, 80), 4, past_key_values=cache)
    assert cache.decode_config == config


@pytest.mark.parametrize("lacking", [{"implementations": {"hash_codes": "other"}}, {"execution": {"isa": "sve"}}])
@pytest.mark.parametrize("source", ["tuned.json", "truffle in config.json"])
def test_what_was_written_down_elsewhere_and_this_machine_lacks_is_left_to_auto(tmp_path, lacking, source):
    model, config = tiny(), {"method": "lsh", **lacking}
    path = tuned_file(tmp_path, DecodeConfig.model_validate(config)) if source == "tuned.json" else None
    model.config.truffle = config
    with pytest.warns(UserWarning, match=rf"{source}: .*auto instead of (other|sve)"):
        cache = TruffleCache(model.config, tuned=path)
    generated(model, prompts(1, 80), 4, past_key_values=cache)
    assert cache.decode_config == DecodeConfig(parameters=LshParameters())


def test_a_named_implementation_that_cannot_run_is_an_error():
    model = tiny()
    cache = TruffleCache(model.config, DecodeConfig(implementations={"hash_codes": "gpu_triton"}))
    with pytest.raises((ValueError, RuntimeError), match="hash_codes"):
        generated(model, prompts(1, 80), 4, past_key_values=cache)


def test_sampling_draws_what_sdpa_draws():
    ids, model = prompts(3, 40), tiny()
    drawn = []
    for each, given in (
        (model, {"past_key_values": cache_for(model, DenseParameters())}),
        (tiny(attention="sdpa"), {}),
    ):
        torch.manual_seed(7)
        drawn.append(generated(each, ids, 40, do_sample=True, temperature=0.8, top_k=20, **given)[0])
    assert torch.equal(*drawn)


def test_several_answers_to_one_prompt_are_rows():
    model = tiny()
    cache = cache_for(model, LshParameters(K=4, L=20, sink=2, window=8, seal_tokens=16))
    torch.manual_seed(7)
    tokens, _ = generated(model, prompts(2, 40), 20, do_sample=True, num_return_sequences=3, past_key_values=cache)
    assert cache.layers[0].batch_size == 6
    assert len({tuple(row) for row in tokens[:3].tolist()}) == 3


@pytest.mark.parametrize(
    "parameters",
    [LshParameters(K=4, L=20, sink=2, window=8, dense_layers=(0,), seal_tokens=64),
     ScanParameters(sink=2, window=8, dense_layers=(0,), seal_tokens=64)],
    ids=["lsh", "scan"],
)  # fmt: skip
def test_thousands_of_tokens_are_generated(parameters):
    model = tiny()
    cache = cache_for(model, parameters)
    tokens, logits = generated(model, prompts(1, 40), 2050, past_key_values=cache)
    usage = cache.caches[1].usage()
    assert tokens.shape == (1, 2050)
    assert logits.isfinite().all()
    assert usage is not None
    assert usage.tokens.tolist() == [40 + 2049]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beams", 2),
        ("prefill_chunk_size", 8),
        ("cache_implementation", "static"),
        ("prompt_lookup_num_tokens", 3),
        ("guidance_scale", 1.5),
        ("output_attentions", True),
    ],
)
def test_what_generate_cannot_do_is_refused_before_it_starts(name: str, value: object):
    with pytest.raises(ArgumentError, match=f"{name}: expected .* with attention 'truffle'.*, got {value}"):
        generated(without_layers(tiny()), prompts(1, 40), 4, **{name: value})


def without_layers(model: PreTrainedModel) -> PreTrainedModel:
    """A model that fails where it does any work."""
    model.get_decoder().layers = None
    return model


@pytest.mark.parametrize(("first", "second"), [("truffle", "sdpa"), ("sdpa", "truffle")])
def test_assisted_generation_is_refused_before_it_starts(first: str, second: str):
    model, assistant = without_layers(tiny(attention=first)), without_layers(tiny(attention=second))
    with pytest.raises(ArgumentError, match="assistant_model: expected None with attention 'truffle', which"):
        model.generate(prompts(1, 40), assistant_model=assistant, max_new_tokens=8, pad_token_id=0)


def test_without_a_cache_it_says_what_sdpa_says():
    tokens, _ = generated(tiny(), prompts(1, 40), 20, use_cache=False)
    assert torch.equal(tokens, generated(tiny(attention="sdpa"), prompts(1, 40), 20)[0])


def test_other_models_keep_their_caches():
    model = tiny(attention="sdpa")
    result = model.generate(prompts(1, 40), max_new_tokens=4, pad_token_id=0, return_dict_in_generate=True)
    assert not isinstance(result.past_key_values, TruffleCache)


def test_nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generated(tiny(), prompts(1, 40), 4)
