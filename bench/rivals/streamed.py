"""Exact attention over prompts that come from pinned host memory in every step."""

from __future__ import annotations

from typing import Self

import torch

from truffle.bench.rivals.conveyor import DEPTH, Conveyor
from truffle.bench.rivals.split import SplitLayer
from truffle.model.cache import ALL
from truffle.model.operations import Operations

# Long enough for a copy's start not to count, short enough to leave the device's memory to what is resident.
CHUNK_BYTES = 64 << 20
STAGING_BYTES = DEPTH * CHUNK_BYTES


class StreamedLayer(SplitLayer):
    """A DeviceLayer for one lane; `conveyor` is that of all layers, `layer` their number."""

    def __init__(
        self, resident: int, ops: Operations, conveyor: Conveyor, layer: int, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        super().__init__(resident, ops)
        self._conveyor, self._layer, self._chunk_bytes = conveyor, layer, chunk_bytes

    def _host(self, keys: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        heads, _, d = keys[0].shape
        device, longest = keys[0].device, max(self.hosted)
        most = max(1, self._chunk_bytes // (2 * len(keys) * heads * d * keys[0].element_size()))
        count = -(-longest // most)
        tokens = -(-longest // max(1, count))  # equal chunks: the last one's empty end would be copied, too
        self._chunks = []
        for start in range(0, count * tokens, max(1, tokens)):
            chunk = torch.zeros(2, len(keys), heads, tokens, d, dtype=keys[0].dtype, pin_memory=device.type == "cuda")
            for side, parts in enumerate((keys, values)):
                for request, part in enumerate(parts):
                    taken = part[:, start : start + tokens]
                    chunk[side, request, :, : taken.shape[1]] = taken
            self._chunks.append(chunk)
        starts = torch.arange(count)[:, None] * tokens
        self._lengths = (torch.tensor(self.hosted) - starts).clamp(0, tokens).to(device, torch.int32)
        self._conveyor.carry(self._layer, self._chunks)

    def twin(self, layer: int) -> Self:
        other = super().twin(layer)
        other._layer = layer
        self._conveyor.carry(layer, self._chunks)
        return other

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: slice = ALL) -> torch.Tensor:
        """Add a token a request and attend to all of the batch: q [B, H, d] in any dtype to out [B, H, d] float32."""
        q, parts = q.to(self._exact.keys.dtype).contiguous(), 1 + len(self._chunks)
        outs = q.new_empty(parts, *q.shape, dtype=torch.float32)
        lses = q.new_empty(parts, *q.shape[:2], dtype=torch.float32)
        self._exact.append(keys, values)
        self._exact.attend(q, self._ops, outs[0], lses[0])
        for number, lengths in enumerate(self._lengths, 1):
            with self._conveyor.next() as (chunk_keys, chunk_values):
                scale = q.shape[-1] ** -0.5
                self._ops.dense_attend(q, chunk_keys, chunk_values, lengths, outs[number], lses[number], scale=scale)
        out, lse = torch.empty_like(outs[0]), torch.empty_like(lses[0])
        self._ops.merge_states(outs, lses, out, lse)
        return out
