"""SmolLM2 in transformers with attention "truffle" and a tuned file, against itself with sdpa."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.model.hf_models import tuned_file
from truffle.bench.text import prose
from truffle.model.config import DecodeConfig, Execution, LshParameters, MethodParameters, ScanParameters
from truffle.model.gguf import converted_gguf, embedded_gguf
from truffle.model.hf import TruffleCache
from truffle.model.llama import Decoder
from truffle.model.weights import load

THREADS = 2
TUNED = Path(__file__).parents[2] / "reports/results/epyc-2-cores/tune_rtx-4090_llama-3.1-8b_96k/tuned.json"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def folder() -> Path:
    torch.set_num_threads(THREADS)
    return converted_gguf(embedded_gguf())


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="truffle", local_files_only=True).eval()


@pytest.fixture(scope="module")
def exact(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", local_files_only=True).eval()


def settings(parameters: MethodParameters) -> DecodeConfig:
    return DecodeConfig(parameters=parameters, execution=Execution(threads=THREADS))


def needle_prompt(tokenizer: Any, depth: float, length: int) -> torch.Tensor:
    """A number among `length` tokens of text, and a sentence that it completes, [1, length]."""
    needle, question = "\nThe special magic number for Lisbon is 4829.\n", "\nThe special magic number for Lisbon is"
    before, behind = tokenizer(needle).input_ids, tokenizer(question).input_ids
    hay = tokenizer(prose()[: 8 * length]).input_ids[: length - len(before) - len(behind)]
    at = int(depth * len(hay))
    return torch.tensor([[*hay[:at], *before, *hay[at:], *behind]])


@pytest.mark.filterwarnings("ignore:.*tuned.json")
@pytest.mark.parametrize("depth", [0.3, 0.7])
@pytest.mark.parametrize(
    "parameters", [LshParameters(), ScanParameters(), None], ids=["lsh (10, 150)", "scan", "as make tune wrote it"]
)  # fmt: skip
def test_a_needle_is_found_at_4k_with_a_tuned_file(model, exact, tokenizer, tmp_path, depth, parameters):
    """The tuner's own file is for a 4090 and an 8B model: 15 of its layers are dense, here half of 30."""
    ids = needle_prompt(tokenizer, depth, 4096)
    file = tuned_file(tmp_path, settings(parameters)) if parameters else TUNED
    cache = TruffleCache(model.config, tuned=file)
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
    answers = [
        tokenizer.decode(each.generate(ids, past_key_values=used, **given)[0, ids.shape[1] :])
        for each, used in ((exact, None), (model, cache))
    ]
    assert ids.shape[1] == 4096
    assert "4829" in answers[0]
    assert answers[1] == answers[0]
    sampled = cache.caches[14].usage()
    assert sampled is not None
    assert float(sampled.densities().mean()) / model.config.num_attention_heads < 0.2


def kl(expected: torch.Tensor, logits: torch.Tensor) -> float:
    """From exact logits [1, vocabulary]."""
    exactly, sampled = expected.log_softmax(-1), logits.log_softmax(-1)
    return float((exactly.exp() * (exactly - sampled)).sum())


def continued(exact: PreTrainedModel, tokenizer: Any, context: int, steps: int) -> tuple[torch.Tensor, Any]:
    """A text [1, context], and how exact attention goes on with it at temperature 0.7, with logits."""
    ids = torch.tensor([tokenizer(prose()[: 8 * context]).input_ids[:context]])
    torch.manual_seed(0)
    run = exact.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps, min_new_tokens=steps, do_sample=True,
        temperature=0.7, top_k=0, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    return ids, run


@pytest.mark.parametrize(
    "parameters", [LshParameters(K=8, L=75), ScanParameters()], ids=["lsh (8, 75)", "scan"]
)  # fmt: skip
def test_kl_is_that_of_the_reference_decoder(model, exact, tokenizer, parameters):
    """The same planes, codes and random numbers: what remains is how two implementations of a layer round."""
    ids, run = continued(exact, tokenizer, 2048, 64)
    cache, reference = TruffleCache(model.config, settings(parameters)), load("smollm2")
    decoder = Decoder(reference.shape, reference.weights, settings(parameters))
    fed, found = ids, []
    with torch.no_grad():
        for step, expected in enumerate(run.logits):
            through_cache = model(fed, past_key_values=cache, logits_to_keep=1).logits[:, -1]
            by_reference = decoder.step(fed[:, 0]) if step else decoder.prefill([ids[0]])
            found.append((kl(expected, through_cache), kl(expected, by_reference)))
            fed = run.sequences[:, 2048 + step : 2049 + step]
    ours, theirs = torch.tensor(found[1:], dtype=torch.float64).mean(0).tolist()
    print(f"mean KL {ours:.5f} in transformers, {theirs:.5f} in the decoder")
    assert theirs > 1e-4, "something is sampled"
    assert ours == pytest.approx(theirs, rel=0.05)


def test_kl_does_not_drift_over_2000_tokens(model, exact, tokenizer):
    """Fed what exact attention goes on with at temperature 0.7, which is indexed as it leaves the open segment."""
    steps, context = 2000, 2048
    ids, run = continued(exact, tokenizer, context, steps)
    cache = TruffleCache(model.config, settings(LshParameters(K=8, L=75, seal_tokens=256)))
    fed, found = ids, []
    with torch.no_grad():
        for step, expected in enumerate(run.logits):
            found.append(kl(expected, model(fed, past_key_values=cache, logits_to_keep=1).logits[:, -1]))
            fed = run.sequences[:, context + step : context + step + 1]
    print(f"KL of the first 500 tokens {sum(found[:500]) / 500:.4f}, of the last {sum(found[-500:]) / 500:.4f}")
    assert len(found) == steps
    assert sum(found[-500:]) <= 2 * sum(found[:500])
