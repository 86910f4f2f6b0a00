"""Tokenizers that disagree on everything: bytes, words with the space before or after them, and SmolLM2's."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from itertools import count

from truffle.bench.tasks.sample import Encode, encoder
from truffle.model.checkpoint import read_tokenizer
from truffle.model.gguf import converted_gguf, embedded_gguf


def by_bytes(text: str) -> list[int]:
    return list(text.encode())


def by_words(pattern: str) -> Encode:
    """Behind a start token, as Llama 3's."""
    ids: defaultdict[str, int] = defaultdict(count(1).__next__)
    return lambda text: [0, *(ids[word] for word in re.findall(pattern, text))]


def smollm2(text: str) -> list[int]:
    return _smollm2()(text)


@functools.cache
def _smollm2() -> Encode:
    return encoder(read_tokenizer(converted_gguf(embedded_gguf())))


TOKENIZERS = {
    "bytes": (by_bytes, 12_000),
    "space before": (by_words(r"\s*\w+|\W"), 2048),
    "space after": (by_words(r"\w+\s*|\W\s*"), 2048),
    "smollm2": (smollm2, 2048),
}
