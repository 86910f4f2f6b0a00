"""Dense decoding against transformers."""

from __future__ import annotations

import json

import pytest
import torch

from tests.model.tiny import LLAMA3_ROPE, save_tiny_llama
from truffle.model.config import DecodeConfig
from truffle.model.generate import generate
from truffle.model.llama import Decoder
from truffle.model.weights import ModelError, load


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"head_dim": 32},
        {"num_key_value_heads": 6},
        {"num_key_value_heads": 1},
        {"rope_parameters": LLAMA3_ROPE},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}},
    ],
    ids=str,
)
def test_tiny_llamas_agree_with_transformers(tmp_path, changes):
    theirs = save_tiny_llama(tmp_path, **changes)
    ours = load(str(tmp_path))
    tokens = torch.randint(0, 101, (90,), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        want = theirs(tokens[None]).logits[0]
    decoder = Decoder(ours.shape, ours.weights, DecodeConfig())
    got = [decoder.prefill([tokens[:40]])[0]]
    got += [decoder.step(tokens[position : position + 1])[0] for position in range(40, 90)]
    assert (torch.stack(got) - want[39:]).abs().max() < 1e-3
    assert want.std() > 0.1, "a test on constant logits shows nothing"


def test_chunked_prefill_changes_nothing(tmp_path, monkeypatch):
    save_tiny_llama(tmp_path)
    model = load(str(tmp_path))
    tokens = torch.randint(0, 101, (50,))
    whole = Decoder(model.shape, model.weights, DecodeConfig()).prefill([tokens])
    monkeypatch.setattr("truffle.model.llama.PREFILL_CHUNK", 16)
    parts = Decoder(model.shape, model.weights, DecodeConfig()).prefill([tokens])
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


def test_smollm2_agrees_with_transformers_over_64_greedy_tokens():
    from transformers import AutoModelForCausalLM

    ours = load("smollm2")
    theirs = AutoModelForCausalLM.from_pretrained(ours.folder, dtype=torch.float32, local_files_only=True)
    prompt = torch.tensor(ours.tokenizer()("A lighthouse keeper wrote in his journal that")["input_ids"])
    decoder = Decoder(ours.shape, ours.weights, DecodeConfig())
    tokens = [new[0] for new in generate(decoder, [prompt], 64)]
    sequence = torch.cat([prompt, torch.tensor(tokens)])
    with torch.inference_mode():
        want = theirs(sequence[None]).logits[0, len(prompt) - 1 : -1]
    assert want.argmax(-1).tolist() == tokens
    fresh = Decoder(ours.shape, ours.weights, DecodeConfig())
    got = [fresh.prefill([prompt])[0]] + [fresh.step(torch.tensor([token]))[0] for token in tokens[:-1]]
    assert (torch.stack(got) - want).abs().max() < 1e-3


@pytest.mark.slow
def test_converted_gguf_holds_what_transformers_reads():
    from transformers import AutoModelForCausalLM

    from truffle.model.checkpoint import read_safetensors
    from truffle.model.gguf import embedded_gguf

    path = embedded_gguf()
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    ours = read_safetensors(load("smollm2").folder)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours[name], parameter), name


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere", "expected 'smollm2'"),
        ("empty", r"expected \*\.safetensors"),
        ("bert", "model_type: expected 'llama'"),
    ],
)
def test_models_that_cannot_be_loaded_say_why(tmp_path, model, message):
    folder = tmp_path / model
    if model != "nowhere":
        save_tiny_llama(folder)
    if model == "empty":
        (folder / "model.safetensors").unlink()
    if model == "bert":
        config = folder / "config.json"
        config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "bert"'))
    with pytest.raises(ModelError, match=message):
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model.safetensors", "no tensors", "expected a safetensors file, got "),
        ("config.json", "[]", "expected a JSON object, got list"),
        ("config.json", '{"model_type": ', "expected a JSON object, got Expecting value: line 1 column 16"),
        ("config.json", {"num_attention_heads": None}, "num_attention_heads: expected a whole number .*, got None"),
        ("config.json", {"hidden_size": "48"}, "hidden_size: expected a whole number .*, got '48'"),
        ("config.json", {"num_key_value_heads": 4}, "heads: expected a multiple of kv_heads = 4, got 6"),
        ("config.json", {"rope_parameters": [1]}, r"rope_parameters: expected an object, got \[1\]"),
        ("config.json", {"rope_parameters": LLAMA3_ROPE | {"factor": None}}, "factor: Input should be a valid number"),
        ("config.json", {"rms_norm_eps": "small"}, "rms_epsilon: Input should be a valid number"),
        ("generation_config.json", "{", "expected a JSON object, got "),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path, name, text, message):
    save_tiny_llama(tmp_path)
    if isinstance(text, dict):
        text = json.dumps(json.loads((tmp_path / name).read_text()) | text)
    (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=message) as caught:
        load(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_a_broken_gguf_file_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF no more")
    with pytest.raises(ModelError, match=r"broken\.gguf: expected a Llama in a GGUF file, got ") as caught:
        load(str(tmp_path / "broken.gguf"))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "truffle" / "models").iterdir())


@pytest.mark.parametrize(("end", "want"), [(7, {7}), ([7, 9], {7, 9}), (None, {2})])
def test_end_tokens_are_the_generation_configs_or_else_the_configs(tmp_path, end, want):
    save_tiny_llama(tmp_path, eos_token_id=2)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    assert load(str(tmp_path)).end_tokens == want
