"""Attention "truffle" on a GPU: what it says there is what it says on the CPU, and what sdpa says."""

from __future__ import annotations

import pytest
import torch

from tests.model.hf_models import cache_for, generated, prompts, tiny
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters, MethodParameters, ScanParameters
from truffle.model.hf import TruffleCache

SETTINGS = [DenseParameters(), LshParameters(window=4096), ScanParameters(window=4096)]
SAMPLED = LshParameters(K=4, L=20, sink=2, window=8, dense_layers=(0,), seal_tokens=16)
RESIDENT = {"retrieve": "gpu_triton", "sparse_attend": "gpu_triton"}


@pytest.mark.gpu
@pytest.mark.parametrize("parameters", SETTINGS, ids=lambda p: p.method)
def test_a_padded_batch_says_what_it_says_with_sdpa(parameters: MethodParameters):
    ids, mask = prompts(2, 70).cuda(), torch.ones(2, 70, dtype=torch.int64, device="cuda")
    mask[1, :30] = 0
    model, other = tiny().cuda(), tiny(attention="sdpa").cuda()
    cache = cache_for(model, parameters)
    tokens, logits = generated(model, ids, 40, attention_mask=mask, past_key_values=cache)
    expected_tokens, expected = generated(other, ids, 40, attention_mask=mask)
    assert torch.equal(tokens, expected_tokens)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("implementations", [{}, RESIDENT], ids=["host", "resident"])
def test_a_sampled_model_says_what_it_says_on_the_cpu(implementations: dict[str, str]):
    """A hash bit may fall otherwise where a projection is nearly zero, and a key of hundreds be missed."""
    ids, model = prompts(2, 150), tiny()
    config = DecodeConfig(parameters=SAMPLED, implementations=implementations)
    _, expected = generated(model, ids, 8, past_key_values=TruffleCache(model.config, DecodeConfig(parameters=SAMPLED)))
    model.cuda()
    cache = TruffleCache(model.config, config)
    _, logits = generated(model, ids.cuda(), 1, past_key_values=cache)
    torch.testing.assert_close(logits.cpu(), expected[:, :1], atol=1e-3, rtol=0)
    _, logits = generated(model, ids.cuda(), 8, past_key_values=TruffleCache(model.config, config))
    assert logits.isfinite().all()
