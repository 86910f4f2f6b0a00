"""Which rows of the stores a step attends, and what chooses them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from truffle.kernels.collision import InclusionLaw

# Tokens cached by request, this step's included, [b] int32 where the stores are, as they are when it is called.
Cached = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Selection:
    """Rows of the store to attend, and how likely each was to be chosen.

    Attributes:
        ids: [B*H, capacity] int32, or [B*Hkv, capacity] for all heads of a group; count: in use of each, int32.
        center, law: inclusion by angle to the centred key, [B, Hkv, d] float32; or
        log_weight: ln of the inclusion probabilities, of the shape of ids, float32.
    """

    ids: torch.Tensor
    count: torch.Tensor
    center: torch.Tensor | None = None
    law: InclusionLaw | None = None
    log_weight: torch.Tensor | None = None


class Selector(Protocol):
    """Chooses rows of the stores of a batch of requests, where the stores are."""

    def add(self, request: int, keys: torch.Tensor) -> Callable[[], None]:
        """Take the next keys of a request, [Hkv, m, d], as they enter its store; returns what remains for the host.

        That is to be called once the device has done what was launched, in the order of these calls.
        """
        ...

    @property
    def question(self) -> tuple[tuple[int, ...], torch.dtype]:
        """What choosing needs to know of a query head: shape and dtype."""
        ...

    def ask(self, q: torch.Tensor, question: torch.Tensor) -> None:
        """Fill question [b, H, ...] from q [b, H, d], on the device of both."""
        ...

    def choose(
        self, question: torch.Tensor, requests: range, count: torch.Tensor, capacity: int, cached: Cached
    ) -> tuple[Callable[[], None], Selection]:
        """A call that chooses by what the question holds then, among at most `capacity` rows a request, and fills
        count [b*H] int32 by query head; and where it puts what it finds. What is drawn for a request follows from its
        question and the tokens that it has cached. Both are valid until the next `add` or `keep`."""
        ...

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these."""
        ...

    def twin(self) -> Selector:
        """Another with the same contents, of which what each adds is its own."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of the index."""
        ...


def distinct_rows(
    selector: Selector, question: torch.Tensor, requests: range, kv_heads: int, capacity: int, cached: Cached
) -> torch.Tensor:
    """Rows that a question [b, H, ...] has chosen by key/value head, [b, Hkv] on the CPU; they are found again."""
    count = torch.empty(question.shape[:2].numel(), dtype=torch.int32, device=question.device)
    find, chosen = selector.choose(question, requests, count, capacity, cached)
    find()
    return distinct_of(chosen, len(requests), kv_heads)


def distinct_of(chosen: Selection, batch: int, kv_heads: int) -> torch.Tensor:
    """Rows that a selection names by key/value head, [b, Hkv] on the CPU."""
    heads = chosen.ids.cpu().view(batch, kv_heads, -1, chosen.ids.shape[1])  # [b, Hkv, G or 1, capacity]
    counts = chosen.count.cpu().view(heads.shape[:3])
    distinct = torch.empty(heads.shape[:2], dtype=torch.int64)
    for b, g in itertools.product(*map(range, distinct.shape)):
        read = [ids[:count] for ids, count in zip(heads[b, g], counts[b, g], strict=True)]
        distinct[b, g] = len(torch.cat(read).unique())
    return distinct
