"""quantize_keys in Triton: half a block of tokens turned on the tensor cores, and packed as coordinates end up.

Three TF32 products stand for a float32 one, as in hash_codes, whose tiles of fewer than 64 tokens these are as well.
"""

# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false

import torch
import triton
import triton.language as tl

from truffle.kernels.codes import BLOCK_TOKENS
from truffle.kernels.contract import Needs
from truffle.kernels.quantize_keys import contract
from truffle.kernels.registry import implements

TOKENS = 32  # a program
SMALLEST, LARGEST = tl.constexpr(contract.SMALLEST), tl.constexpr(contract.LARGEST)


@implements("quantize_keys", "gpu_triton", Needs(packages=("triton",), device="cuda", extra="gpu"))
def quantize_keys(
    keys: torch.Tensor,
    center: torch.Tensor,
    rotation: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    *,
    start: int,
    bits: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    R, n, d = keys.shape
    blocks = words.shape[1]
    if R * n == 0:
        return
    with torch.cuda.device_of(keys):
        quantise[(triton.cdiv(n, TOKENS), R)](
            keys, center, rotation, words, scales.view(torch.int16), n, start, blocks, **tiling(d, bits)
        )


def tiling(d: int, bits: int) -> dict:
    """Constants of `quantise`."""
    wide = max(32, triton.next_power_of_2(d))
    own = {"BITS": bits, "STEP": contract.STEPS[bits], "TOKENS": TOKENS, "TURN": 32, "BLOCK": BLOCK_TOKENS}
    return {"D": d, "WIDE": wide, **own, "num_warps": max(4, wide // 32), "num_stages": 2}  # sums stay in registers


@triton.jit(do_not_specialize=["start"])
def quantise(
    p_keys,  # [R, n, D]
    p_center,  # [R, D]
    p_rotation,  # [D, D]
    p_words,  # [R, blocks, W, BLOCK]
    p_scales,  # [R, blocks, BLOCK], the bits of bfloat16
    n,
    start,
    blocks,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    BITS: tl.constexpr,
    STEP: tl.constexpr,
    TOKENS: tl.constexpr,
    TURN: tl.constexpr,  # coordinates multiplied at once
    BLOCK: tl.constexpr,
):
    FIELDS: tl.constexpr = 32 // BITS
    W: tl.constexpr = (D + FIELDS - 1) // FIELDS
    MOST: tl.constexpr = (1 << BITS) - 1
    r = tl.program_id(1).to(tl.int64)
    o_token, o_d = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, WIDE)
    m_token = o_token < n

    b_turned = tl.zeros([TOKENS, WIDE], tl.float32)
    for k in range(0, D, TURN):
        o_k = k + tl.arange(0, TURN)
        m_key = m_token[:, None] & (o_k < D)
        b_key = tl.load(p_keys + (r * n + o_token[:, None]) * D + o_k, mask=m_key, other=0.0).to(tl.float32)
        b_center = tl.load(p_center + r * D + o_k, mask=o_k < D, other=0.0)
        m_turn = (o_k[:, None] < D) & (o_d < D)
        b_turn = tl.load(p_rotation + o_k[:, None] * D + o_d, mask=m_turn, other=0.0)
        b_turned = tl.dot(b_key - b_center, b_turn, b_turned, input_precision="tf32x3")

    b_square = tl.sum(b_turned * b_turned, 1)
    m_known = (b_square >= SMALLEST) & (b_square <= LARGEST)
    b_steps = 1.0 / (STEP * tl.sqrt(tl.where(m_known, b_square, 1.0) / D))
    b_turned = tl.where(m_known[:, None], b_turned, 0.0)
    b_place = tl.floor(b_turned * b_steps[:, None] + (1 << BITS) // 2)
    b_code = tl.minimum(tl.maximum(b_place, 0.0), MOST).to(tl.int32)
    b_product = tl.sum(b_turned * (2 * b_code - MOST).to(tl.float32), 1)
    b_scale = tl.where(m_known, b_square / tl.where(m_known, b_product, 1.0), 0.0)

    o_place = o_d % FIELDS
    b_shifted = tl.where(o_d < D, b_code << (8 * (o_place % 4) + BITS * (o_place // 4)), 0)
    b_word = tl.xor_sum(tl.reshape(b_shifted, [TOKENS, WIDE // FIELDS, FIELDS]), 2)
    o_at, o_w = start + o_token, tl.arange(0, WIDE // FIELDS)
    o_block = r * blocks + o_at // BLOCK
    p_word = p_words + (o_block[:, None] * W + o_w) * BLOCK + o_at[:, None] % BLOCK
    tl.store(p_word, b_word, mask=m_token[:, None] & (o_w < W))
    b_bits = b_scale.to(tl.int32, bitcast=True)  # rounded to the nearest even here, as the interpreter cuts off
    b_bits = (b_bits + 0x7FFF + ((b_bits >> 16) & 1)) >> 16
    tl.store(p_scales + o_block * BLOCK + o_at % BLOCK, b_bits.to(tl.int16), mask=m_token)
