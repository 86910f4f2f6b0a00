"""What a decoder asks of an attention method: one object a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from truffle.model.background import Later, at_once


@dataclass(frozen=True)
class Usage:
    """What the last step of a layer read.

    Attributes:
        attended: keys attended outside sink and window by query head, [B, H] int64, open-segment keys included; where
            they were counted.
        cached: keys cached outside sink and window, [B] int64.
        tokens: all keys cached, [B] int64.
    """

    attended: torch.Tensor
    cached: torch.Tensor
    tokens: torch.Tensor

    def densities(self) -> torch.Tensor:
        """Keys attended over keys cached, summed over query heads, [B] float64 where they were counted; 0 where nothing
        is cached outside sink and window."""
        shares = torch.where(self.cached > 0, 1 / self.cached.clamp_min(1), 0.0).to(self.attended.device)
        return (self.attended.sum(1) * shares).double()


class LayerCache(Protocol):
    """Keys and values of one layer for a batch of requests, and attention over them.

    A step of a layer is `make_room`, `count_token`, and attention: `attend`, or where the host has a part in it an
    Exchange (exchange.py). Attention only launches work on the device, so that it can be captured; it is captured
    again when the memory it works on moves, as `make_room` says, or after `prefill`, `admit` and `keep`.
    """

    def prefill(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        """Forget everything and take prompts' keys and values, one [Hkv, n, d] a request, RoPE applied.

        The layer is ready when `later` has done what it was given: the host's work on what the device is to make.
        """
        ...

    def admit(self, keys: list[torch.Tensor], values: list[torch.Tensor], later: Later = at_once) -> None:
        """Take the prompts of new requests in the same way, behind the requests there are."""
        ...

    def make_room(self) -> bool:
        """Get ready for one more token a request; returns whether memory that a step works on has moved."""
        ...

    def count_token(self) -> None:
        """Count one more token a request on the host; the step itself counts it on the device."""
        ...

    def rewind(self) -> None:
        """Let the device count as the host does: what was launched since the last step has not happened."""
        ...

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """One whole step: add a token a request, keys and values [B, Hkv, d], and attend: q [B, H, d] to out in
        float32, or rounded once to the model's dtype.

        What comes is rounded to the cache's dtype.
        """
        ...

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these, in this order."""
        ...

    def usage(self) -> Usage | None:
        """What the last step read, or None for a layer that attends everything."""
        ...

    def rows(self) -> torch.Tensor:
        """Distinct keys, exact ones included, that the last step read by key/value head, [B, Hkv] int64, where it
        was counted."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Size of what the layer keeps."""
        ...


class DeviceLayer(LayerCache, Protocol):
    """A layer in which the host has no part."""

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice) -> torch.Tensor:
        """Add a token for each of the requests `rows` and attend: q [b, H, d] to out, as in `decode`."""
        ...
