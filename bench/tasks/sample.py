"""A task makes drafts of any size; a sample is the largest draft that fits the context."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Draft:
    """A prompt in its two parts and what a perfect continuation names."""

    context: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A family of prompts.

    Attributes:
        tokens_to_generate: most tokens that an answer may take.
        draft: makes one from a random state, a size and the tokens of the context. More size, more text.
        smallest: the size below which the task is not what it is called.
    """

    name: str
    tokens_to_generate: int
    draft: Callable[[random.Random, int, int], Draft]
    smallest: int = 1


@dataclass(frozen=True)
class Sample:
    """A prompt that fits, as tokens.

    In setup A all of the prompt is read exactly; in setup B the context is, and the question goes
    through the method under test, token by token.

    Attributes:
        context_ids, question_ids: int64; joined they are the tokens of `prompt`.
        answers: what a perfect continuation names, for scores.string_match_all.
    """

    task: str
    seed: int
    index: int
    prompt: str
    context_ids: torch.Tensor
    question_ids: torch.Tensor
    answers: tuple[str, ...]
    tokens_to_generate: int

    @property
    def prompt_ids(self) -> torch.Tensor:
        """All of the prompt, int64."""
        return torch.cat([self.context_ids, self.question_ids])


def encoder(tokenizer: Any) -> Encode:
    """A transformers tokenizer as the function that `make` takes: what it puts before a text is part of the prompt."""
    return lambda text: tokenizer(text, verbose=False)["input_ids"]


def make(task: Task, encode: Encode, context: int, seed: int, index: int) -> Sample:
    """Sample `index`: the same for the same arguments.

    Prompt and `tokens_to_generate` take at most `context` tokens, and about one more sentence, line or word would
    not fit.

    Raises:
        ValueError: the task's smallest prompt does not fit.
    """
    room = context - task.tokens_to_generate

    def draft(size: int) -> Draft:
        return task.draft(random.Random(f"{task.name} {seed} {index}"), size, context)

    def tokens(size: int) -> int:
        made = draft(size)
        return len(encode(made.context + made.question))

    needed = tokens(task.smallest)
    if needed > room:
        least = needed + task.tokens_to_generate
        raise ValueError(f"context: expected about {least} tokens or more for {task.name}, got {context}")
    chosen = draft(_largest(lambda size: tokens(size) <= room, task.smallest))
    ids, split = _split(encode, chosen)
    prompt = chosen.context + chosen.question
    return Sample(task.name, seed, index, prompt, ids[:split], ids[split:], chosen.answers, task.tokens_to_generate)


def _largest(fits: Callable[[int], bool], smallest: int) -> int:
    low, high = smallest, 2 * smallest
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _split(encode: Encode, draft: Draft) -> tuple[torch.Tensor, int]:
    """The prompt's tokens and how many of them the question leaves as they are."""
    whole, context = encode(draft.context + draft.question), encode(draft.context)
    shared = next((at for at, pair in enumerate(zip(whole, context, strict=False)) if pair[0] != pair[1]), len(context))
    return torch.tensor(whole, dtype=torch.int64), shared
