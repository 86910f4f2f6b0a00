"""A model's layers as transformers' cache knows them: each takes a prompt once, then a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from transformers.cache_utils import CacheLayerMixin

from truffle.kernels.checks import ArgumentError, expect
from truffle.model.hf_maker import Maker
from truffle.model.hf_settings import MODEL

LAYER = "truffle_layer"  # of keys on their way from the cache to attention


class TruffleLayer(CacheLayerMixin):
    """One layer. What `update` returns are the new keys and values alone; the keys bring the layer along to attention.

    Attributes:
        seen: tokens, padding included.
        batch_size: rows of the batch, -1 before there are any.
    """

    is_compileable = False
    is_croppable = False

    def __init__(self, maker: Maker, index: int) -> None:
        super().__init__()
        self._maker, self._index = maker, index
        self.reset()

    def lazy_initialization(self, key_states: torch.Tensor, value_states: Any = None) -> None:
        """Nothing: the first prompt does it."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Count tokens, keys and values [B, Hkv, T, d]; they are cached when they are attended."""
        if key_states.shape != value_states.shape:
            _refuse_sizes(key_states, value_states)
        if self._pending:
            _refuse_pending()
        self._pending = True
        self.seen += key_states.shape[2]
        setattr(key_states, LAYER, self)
        return key_states, value_states

    def take(self, module: torch.nn.Module) -> None:
        """What `module` attends is what `update` brought, once."""
        if not self._pending:
            _refuse_twice(module)
        self._pending = False

    def read(self, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
        """Forget everything and take prompts, one [Hkv, n, d] a row of the batch."""
        self._cache = self._maker.cache(self._index, keys)
        self.batch_size, self.is_initialized = len(keys), True
        with torch.inference_mode():
            self._cache.prefill(list(keys), list(values))

    def decode(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Add tokens one by one and attend: q [B, H, T, d] to [B, T, H, d] in its dtype."""
        if len(q) != self.batch_size:
            raise ArgumentError(f"input_ids: expected the {self.batch_size} rows that the cache holds, got {len(q)}")
        with torch.inference_mode():
            steps = zip(q.unbind(2), keys.unbind(2), values.unbind(2), strict=True)
            outs = [self._cache.decode(*step) for step in steps]
            out = (outs[0].unsqueeze(1) if len(outs) == 1 else torch.stack(outs, dim=1)).to(q.dtype)
        return out.clone() if torch.is_grad_enabled() else out  # gradients do not start from inference's tensors

    def get_seq_length(self, *args: Any) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Keys attended, and where they start; before 5.5 transformers passes the queries' positions."""
        return self.seen + (query_length if isinstance(query_length, int) else len(query_length)), 0

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name before 5.20

    def reset(self) -> None:
        """Forget everything."""
        self.seen, self.batch_size, self.is_initialized = 0, -1, False
        self._pending = False  # whether keys came that were not attended yet

    def keep(self, rows: list[int]) -> None:
        """Forget all rows but these, in this order.

        Raises:
            ArgumentError: a row twice, as beam search asks for: rows share no memory.
        """
        twice = len({*rows}) < len(rows)
        expect(not twice, "reorder_cache", "every row once at most (beam search is not supported)", rows)
        if self.is_initialized:
            with torch.inference_mode():
                self._cache.keep(rows)
            self.batch_size = len(rows)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.keep(beam_idx.tolist())

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep rows, by index or by a bool each."""
        chosen = indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices
        self.keep(chosen.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        if repeats != 1:
            _refuse("batch_repeat_interleave", "rows share no memory")

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            _refuse("crop", "tokens that were indexed are not forgotten")

    def offload(self) -> None:
        _refuse("offloading", "keys and values stay where the method has them")

    prefetch = offload


def _refuse_sizes(keys: torch.Tensor, values: torch.Tensor) -> NoReturn:
    raise ArgumentError(f"values: expected {tuple(keys.shape)}, as the keys, got {tuple(values.shape)}")


def _refuse_pending() -> NoReturn:
    raise ArgumentError(f"past_key_values: expected {MODEL}, got keys that were never attended")


def _refuse_twice(module: torch.nn.Module) -> NoReturn:
    name = type(module).__name__
    raise ArgumentError(f"{name}: expected attention once for what is cached, got it again ({name} is not supported)")


def _refuse(what: str, why: str) -> NoReturn:
    raise NotImplementedError(f"{what}: TruffleCache cannot do this, as {why}")
