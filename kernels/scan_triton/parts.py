"""Which tokens a program of the scan has, in Triton."""

# pyright: reportArgumentType=false, reportOperatorIssue=false

import triton
import triton.language as tl

from truffle.kernels import scan_scratch

MOST_PARTS = tl.constexpr(scan_scratch.MOST_PARTS)
PART_TOKENS = tl.constexpr(scan_scratch.PART_TOKENS)


@triton.jit
def part_tokens(n):
    """scan_scratch.part_tokens."""
    return tl.maximum(tl.cdiv(tl.cdiv(n, PART_TOKENS), MOST_PARTS), 1) * PART_TOKENS


@triton.jit
def parts_of(n):
    """Parts of n tokens."""
    return tl.cdiv(n, part_tokens(n))
