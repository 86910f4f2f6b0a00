"""Keys and values that are attended exactly, a row of slots a request."""

from __future__ import annotations

import torch

from truffle.model.operations import Operations

_GROW_SLOTS = 256


class ExactCache:
    """Slots [B, Hkv, capacity, d] of exact keys and values; the first `lengths[b]` of a row are in use.

    Attributes:
        keys, values: [B, Hkv, capacity, d] in the model's dtype, on its device.
        lengths: slots in use, by request.
    """

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor], spare: int = _GROW_SLOTS) -> None:
        """Start from `keys` and `values`, one [Hkv, n, d] a request, with `spare` free slots at least."""
        heads, _, d = keys[0].shape
        self.lengths, self._spare = [], spare
        self.keys, self.values = (part[0].new_empty(0, heads, 0, d) for part in (keys, values))
        self.extend(keys, values)

    def _sync(self) -> None:
        self._lengths = torch.tensor(self.lengths, dtype=torch.int32, device=self.keys.device)

    def extend(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Add requests behind those there are, one [Hkv, n, d] each."""
        present, heads, capacity, d = self.keys.shape
        lengths = [part.shape[1] for part in keys]
        shape = (present + len(keys), heads, max(capacity, max(lengths) + self._spare), d)
        for name, parts in (("keys", keys), ("values", values)):
            old = getattr(self, name)
            new = old.new_zeros(shape)
            new[:present, :, :capacity] = old
            for request, part in enumerate(parts, present):
                new[request, :, : part.shape[1]] = part
            setattr(self, name, new)
        self.lengths = self.lengths + lengths
        self._sync()

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Add one token a request, [B, Hkv, d] each."""
        self.put(self.lengths, keys, values)

    def put(self, slots: list[int], keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put one token a request, [B, Hkv, d] each, into the given slots, the next free ones at most."""
        if max(slots) == self.keys.shape[2]:
            self._grow()
        for request, slot in enumerate(slots):
            self.keys[request, :, slot] = keys[request]
            self.values[request, :, slot] = values[request]
        lengths = [max(length, slot + 1) for length, slot in zip(self.lengths, slots, strict=True)]
        if lengths != self.lengths:
            self.lengths = lengths
            self._sync()

    def _grow(self) -> None:
        capacity = self.keys.shape[2] + max(_GROW_SLOTS, self.keys.shape[2] // 4)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
            new[:, :, : old.shape[2]] = old
            setattr(self, name, new)

    def take(self, request: int, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Remove `count` slots from `first` on; returns their keys and values, [Hkv, count, d]."""
        end = self.lengths[request]
        taken = []
        for slots in (self.keys, self.values):
            row = slots[request]
            taken.append(row[:, first : first + count].clone())
            row[:, first : end - count] = row[:, first + count : end].clone()
        self.lengths[request] = end - count
        self._sync()
        return taken[0], taken[1]

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these."""
        index = torch.tensor(requests, dtype=torch.int64, device=self.keys.device)
        self.keys, self.values = self.keys[index], self.values[index]
        self.lengths = [self.lengths[request] for request in requests]
        self._sync()

    def attend(self, q: torch.Tensor, ops: Operations) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention of q [B, H, d] over the slots in use: out [B, H, d] and lse [B, H], float32."""
        out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        scale = q.shape[-1] ** -0.5
        ops.dense_attend(q, self.keys, self.values, self._lengths, out, lse, scale=scale)
        return out, lse

    @property
    def memory_bytes(self) -> int:
        """Size of the slots."""
        return self.keys.nbytes + self.values.nbytes
