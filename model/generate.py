"""Generation: a batch of prompts, each continued until its own end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from truffle.model.llama import Decoder
from truffle.model.methods.base import LayerCache


@dataclass
class DensityMeter:
    """Observes a decoder and averages its density over sparse layers, heads and steps.

    What a layer counted stays where it is until the density is asked for: no step waits for the device.
    """

    total: float | torch.Tensor = 0.0
    count: int = 0

    def __call__(self, index: int, cache: LayerCache, *tensors: torch.Tensor) -> None:
        usage = cache.usage()
        if usage is None:
            return
        self.total = self.total + usage.densities().sum()
        self.count += int((usage.cached > 0).sum()) * usage.attended.shape[1]

    @property
    def density(self) -> float | None:
        """Keys attended over keys cached, outside sink and window; None before anything was sampled."""
        return float(self.total) / self.count if self.count else None


@dataclass
class Sampler:
    """Picks next tokens: the likeliest at temperature 0, else drawn from softmax(logits / temperature)."""

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature: expected at least 0, got {self.temperature}")
        self._generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Tokens [B] from logits [B, vocabulary]."""
        if self.temperature == 0.0:
            return logits.argmax(dim=-1)
        weights = (logits.cpu() / self.temperature).softmax(-1)
        return torch.multinomial(weights, 1, generator=self._generator)[:, 0]


def generate(
    decoder: Decoder,
    prompts: list[torch.Tensor],
    max_new_tokens: int,
    end_tokens: frozenset[int] = frozenset(),
    sampler: Sampler | None = None,
) -> Iterator[dict[int, int]]:
    """Continue prompts (int64 [n] each); yields the new token of every live request, by request.

    A request ends with its own end token, which is not yielded, or after `max_new_tokens`; the others go on.
    Without a sampler the likeliest token is taken.
    """
    sampler = sampler or Sampler()
    live = list(range(len(prompts)))
    logits = decoder.prefill(prompts)
    for produced in range(max_new_tokens):
        tokens = sampler(logits)
        going = [row for row, token in enumerate(tokens.tolist()) if token not in end_tokens]
        if not going:
            return
        if len(going) < len(live):
            decoder.keep(going)
            live, tokens = [live[row] for row in going], tokens[going]
        yield dict(zip(live, tokens.tolist(), strict=True))
        if produced + 1 < max_new_tokens:
            logits = decoder.step(tokens)
