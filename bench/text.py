"""Text that is on every machine, of three kinds: a language reference, source code, and essays from templates."""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from truffle.bench.tasks.filler import essay
from truffle.kernels.checks import expect

SOURCE = "pydoc_data.topics"
MODULES = (
    "argparse", "ast", "difflib", "doctest", "enum", "inspect", "ipaddress", "mailbox", "optparse", "pdb", "statistics",
    "subprocess", "tarfile", "tempfile", "threading", "turtle", "typing",
)  # fmt: skip
SENTENCES, PARAGRAPH = 6000, 8


@functools.cache
def prose() -> str:
    """All topics of the language reference, about 465,000 characters."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics))


@functools.cache
def code() -> str:
    """Modules of the standard library, about a million characters; like the reference they differ between versions."""
    specs = [importlib.util.find_spec(name) for name in MODULES]
    return "\n\n".join(Path(spec.origin).read_text(encoding="utf-8") for spec in specs if spec and spec.origin)


@functools.cache
def essays() -> str:
    """Sentences from the templates of the tasks' filler, about 450,000 characters."""
    sentences = essay(random.Random(0), SENTENCES)
    paragraphs = (sentences[first : first + PARAGRAPH] for first in range(0, len(sentences), PARAGRAPH))
    return "\n\n".join(" ".join(paragraph) for paragraph in paragraphs)


KINDS: dict[str, Callable[[], str]] = {"reference": prose, "code": code, "essays": essays}


def kinds(text: str) -> list[str]:
    """Kinds of text by a list of names.

    Raises:
        ValueError: one that is none.
    """
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in found:
        expect(name in KINDS, "texts", f"some of {', '.join(KINDS)}", repr(name))
    return found


def windows(tokenizer: Any, count: int, length: int, kind: str = "reference") -> list[torch.Tensor]:
    """`count` stretches of `length` tokens, int64, spread evenly over the text without overlap.

    Raises:
        ValueError: the text is too short for that many.
    """
    tokens = torch.tensor(tokenizer(KINDS[kind]())["input_ids"], dtype=torch.int64)
    if count * length > len(tokens):
        raise ValueError(f"samples: expected at most {len(tokens) // length} of {length} tokens, got {count}")
    stride = len(tokens) // count
    return [tokens[start : start + length] for start in range(0, count * stride, stride)]
