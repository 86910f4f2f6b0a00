"""Keys and values that are attended exactly, a row of slots a request."""

from __future__ import annotations

import copy

import torch

from truffle.model.operations import Operations

GROW_SLOTS = 256
ALL = slice(None)


class ExactCache:
    """Slots [B, Hkv, capacity, d] of exact keys and values; the first `lengths[b]` of a row are in use.

    Lengths are counted twice: here, for decisions between steps, and on the device, where a step reads and moves
    them without asking the host. What a step touches stays where it is until `grow`, `extend` or `keep`.

    Attributes:
        keys, values: [B, Hkv, capacity, d] in the model's dtype, on its device.
        lengths: slots in use, by request.
        in_use: the same on the device, [B] int32.
    """

    def __init__(self, keys: list[torch.Tensor], values: list[torch.Tensor], capacity: int | None = None) -> None:
        """Start from `keys` and `values`, one [Hkv, n, d] a request; without a fixed `capacity` it grows."""
        heads, _, d = keys[0].shape
        self.lengths: list[int] = []
        self._fixed = capacity
        self.keys, self.values = (part[0].new_empty(0, heads, 0, d) for part in (keys, values))
        self.extend(keys, values)

    def twin(self) -> ExactCache:
        """Another with the same contents."""
        other = copy.copy(self)
        other.keys, other.values, other.in_use = self.keys.clone(), self.values.clone(), self.in_use.clone()
        return other

    @property
    def capacity(self) -> int:
        """Slots a request."""
        return self.keys.shape[2]

    def extend(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        """Add requests behind those there are, one [Hkv, n, d] each."""
        present, heads, capacity, d = self.keys.shape
        lengths = [part.shape[1] for part in keys]
        wanted = self._fixed or max(capacity, max(lengths) + GROW_SLOTS)
        shape = (present + len(keys), heads, wanted, d)
        for name, parts in (("keys", keys), ("values", values)):
            old = getattr(self, name)
            new = old.new_zeros(shape)
            new[:present, :, :capacity] = old
            for request, part in enumerate(parts, present):
                new[request, :, : part.shape[1]] = part
            setattr(self, name, new)
        self.lengths = self.lengths + lengths
        self._count_anew()

    def _count_anew(self) -> None:
        self.in_use = torch.tensor(self.lengths, dtype=torch.int32, device=self.keys.device)

    def put(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> None:
        """Put one token a request, [b, Hkv, d] each in any dtype, into `slots` [b] int64, for the requests `rows`."""
        if self.keys.device.type == "cpu":  # where scatter_ copies all slots, there and back
            requests = torch.arange(len(slots))
            self.keys[rows][requests, :, slots] = keys.to(self.keys.dtype)
            self.values[rows][requests, :, slots] = values.to(self.values.dtype)
            return
        index = slots.view(-1, 1, 1, 1).expand(*keys.shape[:2], 1, keys.shape[2])
        self.keys[rows].scatter_(2, index, keys.to(self.keys.dtype).unsqueeze(2))
        self.values[rows].scatter_(2, index, values.to(self.values.dtype).unsqueeze(2))

    def append(self, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> None:
        """Put one token a request behind those there are, and count it on the device."""
        in_use = self.in_use[rows]
        self.put(in_use.long(), keys, values, rows)
        in_use.add_(1)

    def grow(self) -> bool:
        """Make room for one more token a request; returns whether the slots moved."""
        if max(self.lengths, default=0) < self.capacity:
            return False
        capacity = self.capacity + max(GROW_SLOTS, self.capacity // 4)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
            new[:, :, : old.shape[2]] = old
            setattr(self, name, new)
        return True

    def count_token(self) -> None:
        """Count one more token a request here."""
        self.lengths = [length + 1 for length in self.lengths]

    def rewind(self) -> None:
        """Let the device count as the host does."""
        self.in_use.copy_(torch.tensor(self.lengths, dtype=torch.int32))

    def take(self, request: int, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Remove `count` slots from `first` on; returns their keys and values, [Hkv, count, d]."""
        end = self.lengths[request]
        taken = []
        for slots in (self.keys, self.values):
            row = slots[request]
            taken.append(row[:, first : first + count].clone())
            row[:, first : end - count] = row[:, first + count : end].clone()
        self.lengths[request] = end - count
        self.rewind()
        return taken[0], taken[1]

    def keep(self, requests: list[int]) -> None:
        """Forget all requests but these."""
        index = torch.tensor(requests, dtype=torch.int64, device=self.keys.device)
        self.keys, self.values = self.keys[index], self.values[index]
        self.lengths = [self.lengths[request] for request in requests]
        self._count_anew()

    def attend(self, q: torch.Tensor, ops: Operations, out: torch.Tensor, lse: torch.Tensor, rows: slice = ALL) -> None:
        """Attention of q [b, H, d] in any dtype over the slots in use: out [b, H, d] and lse [b, H], float32."""
        q, scale = q.to(self.keys.dtype).contiguous(), q.shape[-1] ** -0.5
        ops.dense_attend(q, self.keys[rows], self.values[rows], self.in_use[rows], out, lse, scale=scale)

    @property
    def memory_bytes(self) -> int:
        """Size of the slots."""
        return self.keys.nbytes + self.values.nbytes
