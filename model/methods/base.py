"""What a decoder asks of an attention method: one object a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Usage:
    """What the last step of a layer read.

    Attributes:
        attended: keys attended outside sink and window by query head, [B, H] int64, open-segment keys included.
        cached: keys cached outside sink and window, [B] int64.
        tokens: all keys cached, [B] int64.
    """

    attended: torch.Tensor
    cached: torch.Tensor
    tokens: torch.Tensor


class LayerCache(Protocol):
    """Keys and values of one layer for a batch of requests, and attention over them."""

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Forget everything and take prompts' keys and values, one [Hkv, n, d] a request, RoPE applied."""
        ...

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Take the prompts of new requests in the same way, behind the requests there are."""
        ...

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Add one token a request, keys and values [B, Hkv, d], and attend: q [B, H, d] to out [B, H, d]."""
        ...

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these, in this order."""
        ...

    def usage(self) -> Usage | None:
        """What the last step read, or None for a layer that attends everything."""
        ...

    def rows(self) -> torch.Tensor:
        """Distinct keys, exact ones included, that the last step read by key/value head, [B, Hkv] int64."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of what the layer keeps."""
        ...
