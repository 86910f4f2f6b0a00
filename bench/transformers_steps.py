"""Times transformers' generate() with Truffle's attention beside the reference decoder, step by step in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from truffle.bench import text
from truffle.bench.decode import WARM_UP_STEPS, device_done
from truffle.bench.timing import median_ci95, quantiles_us
from truffle.model.config import DecodeConfig
from truffle.model.generate import DensityMeter
from truffle.model.hf import NAME, TruffleCache
from truffle.model.llama import Decoder
from truffle.model.weights import LoadedModel

UNTIMED = 2 * WARM_UP_STEPS


def time_transformers(model: LoadedModel, config: DecodeConfig, context: int, steps: int) -> dict[str, Any]:
    """Generate `steps` tokens behind `context` tokens of real text in every request of the batch; after each, the
    reference decoder is given the same tokens.

    A step of transformers' is all that generate() does from one token to the next. `over_reference` is the median of
    what it takes over the reference's step beside it, with its 95% interval.
    """
    batch = config.execution.batch_size
    prompts = text.windows(model.tokenizer(), batch, context)
    decoder = Decoder(model.shape, model.weights, config)
    decoder.prefill(prompts)
    turns = Turns(decoder)
    hf_model = _in_transformers(model)
    cache = TruffleCache(hf_model.config, config)
    ids = torch.stack(prompts).to(hf_model.device)
    hf_model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=steps + UNTIMED + 1, do_sample=False,
        past_key_values=cache, streamer=turns,
    )  # fmt: skip
    ours, reference = (np.array(times[UNTIMED:]) for times in (turns.ours, turns.reference))
    times, low_high = quantiles_us(ours.tolist()), median_ci95(ours / reference)
    return {
        **times,
        "tokens_per_s": batch / times["median_us"] * 1e6,
        "reference_median_us": quantiles_us(reference.tolist())["median_us"],
        "over_reference": float(np.median(ours / reference)),
        "over_reference_low": low_high[0],
        "over_reference_high": low_high[1],
        "density": turns.meter.density,
        "context": context,
        "steps": steps,
        "kind": "measured",
        "index_and_cache_bytes": sum(layer.memory_bytes for layer in cache.caches),
    }


def _in_transformers(model: LoadedModel) -> Any:
    """The same model as transformers reads it."""
    weights = model.weights
    hf_model: Any = AutoModelForCausalLM.from_pretrained(
        model.folder, attn_implementation=NAME, dtype=weights.dtype, local_files_only=True
    )
    hf_model.generation_config.eos_token_id = None  # all steps are timed
    hf_model.generation_config.pad_token_id = 0
    return hf_model.to(weights.device).eval()


@dataclass
class Turns(BaseStreamer):
    """Told of every token, it ends the step that made it and lets the reference decoder take the same.

    Attributes:
        ours, reference: seconds by step.
        meter: of the reference decoder's first steps.
    """

    decoder: Decoder
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    meter: DensityMeter = field(default_factory=DensityMeter)
    _calls: int = 0
    _started: float = 0.0

    def put(self, value: torch.Tensor) -> None:
        """Tokens [B] of a step; first come the prompt and the token that reading it gives."""
        now = time.perf_counter()
        self._calls += 1
        if self._calls > 2:
            self.ours.append(now - self._started)
        if self._calls > 1:
            self._let_reference_step(value)
        self._started = time.perf_counter()

    def _let_reference_step(self, tokens: torch.Tensor) -> None:
        self.decoder.observer = self.meter if len(self.reference) < WARM_UP_STEPS else None  # counting takes time
        tokens, started = tokens.to(self.decoder.weights.device), time.perf_counter()
        self.decoder.step(tokens).argmax(-1)
        device_done(self.decoder.weights.device)
        self.reference.append(time.perf_counter() - started)

    def end(self) -> None:
        """Drop the reference's last step, which has no other beside it."""
        del self.reference[len(self.ours) :]
