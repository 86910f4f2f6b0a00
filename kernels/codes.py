"""Where the keys that a scan reads live: a few bits a coordinate, tokens side by side.

Tokens lie in blocks of 64, and a block's words in the order ``[word, token]``: neighbouring lanes of a CPU's register,
or threads of a warp, hold the same coordinates of neighbouring tokens, so that a product over coordinates needs no sum
across lanes and a block is one run of memory. A token's words are its own, so that appending writes no other's.

Word w of a token holds coordinates ``32/b * w`` and on. Field f of its byte j, bits ``8 j + b f`` and on, is the code
of coordinate ``32/b * w + 4 f + j``: shifted by b f and masked, a word is four codes in bytes, as dot products of
bytes take them. Fields beyond the last coordinate are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from truffle.kernels.checks import expect
from truffle.kernels.memory import allocate

BLOCK_TOKENS = 64
BITS = (1, 2, 4)


@dataclass(frozen=True)
class Codes:
    """Codes of the first `length` rows of a store, of one request and layer (quantize_keys says what they mean).

    Attributes:
        words: [Hkv, blocks, W, 64] int32, W = ceil(bits * head_dim / 32).
        scales: [Hkv, blocks, 64] bfloat16.
        length: tokens in use; what lies behind them is undefined.
        head_dim: d.
        bits: 1, 2 or 4 a coordinate.
    """

    words: torch.Tensor
    scales: torch.Tensor
    length: int
    head_dim: int
    bits: int

    @staticmethod
    def allocate(kv_heads: int, capacity: int, head_dim: int, bits: int, **team: Any) -> Codes:
        """Room for `capacity` tokens; `team` says who will read them, and where (memory.allocate)."""
        expect(bits in BITS, "bits", "1, 2 or 4", bits)
        words, scales = _room(kv_heads, capacity, words_of(head_dim, bits), **team)
        return Codes(words, scales, 0, head_dim, bits)

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self.words.shape[1] * BLOCK_TOKENS

    @property
    def memory_bytes(self) -> int:
        """Size of the index."""
        return self.words.nbytes + self.scales.nbytes

    def longer(self, count: int, **team: Any) -> Codes:
        """These with `count` more tokens in use, contents undefined; the room grows by half when it is full."""
        end, words, scales = self.length + count, self.words, self.scales
        if end > self.capacity:
            blocks = words.shape[1]
            words, scales = _room(words.shape[0], max(end, self.capacity * 3 // 2), words.shape[2], **team)
            words[:, :blocks], scales[:, :blocks] = self.words, self.scales
        return Codes(words, scales, end, self.head_dim, self.bits)


def words_of(head_dim: int, bits: int) -> int:
    """Words of 32 bits that a token takes."""
    return -(-bits * head_dim // 32)


def with_spare(tokens: int) -> int:
    """Tokens to make room for where so many are to grow in place for a while."""
    return tokens + max(1024, tokens // 8)


def code_bytes(kv_heads: int, tokens: int, head_dim: int, bits: int) -> int:
    """Bytes of codes and scales of so many tokens, whole blocks."""
    blocks = -(-tokens // BLOCK_TOKENS)
    return kv_heads * blocks * BLOCK_TOKENS * (4 * words_of(head_dim, bits) + 2)


def unpacked(words: torch.Tensor, head_dim: int, bits: int) -> torch.Tensor:
    """Codes [Hkv, blocks * 64, d] int64 of words [Hkv, blocks, W, 64]."""
    shifts = torch.tensor([8 * j + bits * f for f in range(8 // bits) for j in range(4)])
    fields = (words.long()[:, :, :, None] >> shifts[:, None]) & ((1 << bits) - 1)
    return fields.flatten(2, 3).transpose(2, 3).flatten(1, 2)[..., :head_dim]


def _room(kv_heads: int, capacity: int, words: int, **team: Any) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = -(-capacity // BLOCK_TOKENS)
    return (
        allocate((kv_heads, blocks, words, BLOCK_TOKENS), torch.int32, **team),
        allocate((kv_heads, blocks, BLOCK_TOKENS), torch.bfloat16, **team),
    )
