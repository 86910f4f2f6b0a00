"""Attention "truffle" where it attends to everything: models say what they say with sdpa."""

from __future__ import annotations

import pytest
import torch

from tests.model.hf_models import ARCHITECTURES, cache_for, generated, prompts, tiny
from tests.model.tiny import save_tiny_llama
from truffle.model.config import METHODS, DecodeConfig, Execution, LshParameters, MethodParameters, ScanParameters
from truffle.model.hf import TruffleCache
from truffle.model.llama import Decoder
from truffle.model.weights import load

STEPS = 64
TOLERANCE = 1e-3  # float32


def everything(method: str) -> MethodParameters:
    """Parameters with which a method attends to all there is."""
    kind = METHODS[method]
    return kind(window=4096, dense_layers=()) if "window" in kind.model_fields else kind()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["dense", "lsh", "scan"])
def test_a_model_says_what_it_says_with_sdpa(architecture: str, method: str):
    ids, model = prompts(2, 70), tiny(architecture)
    tokens, logits = generated(model, ids, STEPS, past_key_values=cache_for(model, everything(method)))
    expected_tokens, expected = generated(tiny(architecture, "sdpa"), ids, STEPS)
    assert torch.equal(tokens, expected_tokens)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_decodes(method: str):
    ids, model = prompts(1, 70), tiny()
    _, logits = generated(model, ids, 8, past_key_values=cache_for(model, everything(method)))
    torch.testing.assert_close(logits, generated(tiny(attention="sdpa"), ids, 8)[1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "parameters",
    [LshParameters(K=4, L=20, sink=2, window=8, dense_layers=(0,), seal_tokens=16),
     ScanParameters(sink=2, window=8, dense_layers=(0,), seal_tokens=16)],
    ids=["lsh", "scan"],
)  # fmt: skip
@pytest.mark.parametrize("store_format", ["float32", "int8"])
def test_a_sampled_model_says_what_the_reference_decoder_says(tmp_path, parameters, store_format):
    """Seals happen on the way; both draw the same sample, so more than noise would show."""
    config = DecodeConfig(parameters=parameters, execution=Execution(store_format=store_format))
    save_tiny_llama(tmp_path)
    loaded, model = load(str(tmp_path)), tiny(max_position_embeddings=512)
    model.load_state_dict(save_tiny_llama(tmp_path).state_dict())
    decoder, cache = Decoder(loaded.shape, loaded.weights, config), TruffleCache(model.config, config)
    ids = prompts(2, 150)
    expected = decoder.prefill(list(ids))
    with torch.no_grad():
        logits = model(ids, past_key_values=cache).logits[:, -1]
        for _ in range(40):
            torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)
            token = expected.argmax(-1)
            expected = decoder.step(token)
            logits = model(token[:, None], past_key_values=cache).logits[:, -1]
    sampled = cache.caches[1].usage()
    assert sampled is not None
    assert 0 < float(sampled.attended.sum()) < float(sampled.cached.sum()) * sampled.attended.shape[1]


def test_half_precision_comes_back_as_it_came():
    model = tiny(attention="truffle").to(torch.bfloat16)
    _, logits = generated(model, prompts(1, 40), 8)
    expected = generated(tiny(attention="sdpa").to(torch.bfloat16), prompts(1, 40), 1)[1]
    assert model.dtype == torch.bfloat16
    torch.testing.assert_close(logits[:, :1], expected)


def test_without_a_cache_attention_is_causal_and_has_gradients():
    ids, model, other = prompts(2, 30), tiny(), tiny(attention="sdpa")
    for each in (model, other):
        each(ids, torch.ones_like(ids), labels=ids, use_cache=False).loss.backward()
    for (name, parameter), (_, expected) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)
