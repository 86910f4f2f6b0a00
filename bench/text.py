"""Real English text that is on every machine: the standard library's language reference."""

from __future__ import annotations

import functools
from typing import Any

import torch

SOURCE = "pydoc_data.topics"


@functools.cache
def prose() -> str:
    """All topics of the language reference, about 465,000 characters."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics))


def windows(tokenizer: Any, count: int, length: int) -> list[torch.Tensor]:
    """`count` stretches of `length` tokens, int64, spread evenly over the text without overlap.

    Raises:
        ValueError: the text is too short for that many.
    """
    tokens = torch.tensor(tokenizer(prose())["input_ids"], dtype=torch.int64)
    if count * length > len(tokens):
        raise ValueError(f"samples: expected at most {len(tokens) // length} of {length} tokens, got {count}")
    stride = len(tokens) // count
    return [tokens[start : start + length] for start in range(0, count * stride, stride)]
