"""Attention "truffle" on a GPU: what it says there is what it says on the CPU, and what sdpa says."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

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
    """In nearly every step: a hash bit may fall otherwise where a projection is nearly zero."""
    ids, config = prompts(2, 190), DecodeConfig(parameters=SAMPLED)
    expected = followed(tiny(), ids, config)
    logits = followed(tiny().cuda(), ids.cuda(), config.model_copy(update={"implementations": implementations}))
    off = (logits.cpu() - expected).abs().amax(-1)
    assert float((off < 0.05).float().mean()) > 0.8, off
    assert logits.isfinite().all()


def followed(model: PreTrainedModel, ids: torch.Tensor, config: DecodeConfig) -> torch.Tensor:
    """Logits [B, 40, vocabulary] of a text's last tokens, decoded one by one."""
    cache = TruffleCache(model.config, config)
    with torch.no_grad():
        model(ids[:, :-40], past_key_values=cache)
        steps = [model(token[:, None], past_key_values=cache).logits for token in ids[:, -40:].T]
    return torch.cat(steps, dim=1)
