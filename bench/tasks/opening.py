"""Short prompts for long generation: the openings of essays that a model can go on with for as long as it likes."""

from __future__ import annotations

import random

import torch

from truffle.bench.tasks import filler
from truffle.bench.tasks.sample import Encode


def opening(encode: Encode, length: int, seed: int, index: int) -> torch.Tensor:
    """The first `length` tokens of an essay, int64 [length]; the same for the same arguments.

    Raises:
        ValueError: `length` is below 1.
    """
    if length < 1:
        raise ValueError(f"length: expected at least 1 token, got {length}")
    sentences, ids = 1, []
    while len(ids) <= length:  # one more, so that the last token is not that of a text's end
        ids = encode(" ".join(filler.essay(random.Random(f"opening {seed} {index}"), sentences)))
        sentences *= 2
    return torch.tensor(ids[:length], dtype=torch.int64)
