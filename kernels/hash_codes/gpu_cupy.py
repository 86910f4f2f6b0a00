"""hash_codes as a CUDA kernel, compiled by NVRTC through CuPy: tokens in registers, bits packed where they arise."""

from pathlib import Path

import torch

from truffle.kernels import cupy_support, plane_terms
from truffle.kernels.contract import Needs
from truffle.kernels.cupy_support import launch, stream
from truffle.kernels.registry import implements
from truffle.kernels.workspace import workspace

SOURCE = Path(__file__).with_name("hash_codes.cu")
TABLES = 4  # a product of 16 by 8 decides two bits of each
STEP = 32  # dimensions
WARPS = 8  # a block at most
BLOCKS = 512  # to share the card: a few tokens are shared out by tables


@implements("hash_codes", "gpu_cupy", Needs(packages=("cupy",), device="cuda", extra="gpu"))
def hash_codes(
    x: torch.Tensor,
    planes: torch.Tensor,
    center: torch.Tensor | None,
    codes: torch.Tensor,
    *,
    K: int,
    threads: int = 1,
    isa: str = "auto",
    pinning: str = "none",
) -> None:
    R, n, d = x.shape
    L = codes.shape[1]
    if R * n * L == 0:
        return
    terms = plane_terms.once(planes, "terms", lambda: plane_terms.terms(planes))
    laid_out = plane_terms.once(planes, ("fragments", K), lambda: fragments(terms, K))
    module = cupy_support.compiled(SOURCE, options(d, K, len(terms), x.dtype), x.device.index)
    own = 4 if x.dtype == torch.bfloat16 else 2  # tokens a lane; eight lanes of a warp hold others
    warps = min(WARPS, -(-n // (8 * own)))
    tiles, groups = R * -(-n // (warps * 8 * own)), len(laid_out)
    each = -(-groups // min(groups, -(-BLOCKS // tiles)))
    offsets = None if center is None else workspace(x.device, "hash_codes", R * L * K)
    with torch.cuda.device_of(x), stream(x.device):
        if offsets is not None:
            launch(module, "project_centers", (-(-L * K // 256), R), 256, center, planes, offsets, L * K)
        grid = (tiles, -(-groups // each))
        launch(module, "hash_codes", grid, warps * 32, x, laid_out, offsets, codes, n, L, each)


def options(d: int, K: int, terms: int, dtype: torch.dtype) -> tuple[str, ...]:
    """What NVRTC is told to make the source a kernel for tokens of d dimensions and `dtype`."""
    return cupy_support.options(D=d, K=K, TERMS=terms, FLOAT_TOKENS=int(dtype == torch.float32))


def fragments(terms: torch.Tensor, K: int) -> torch.Tensor:
    """Terms [T, d, L*K] in the order of the lanes that multiply them, [groups, pairs of bits, T, steps, lanes, 8].

    Lane ``8 * table + 4 * bit + part`` of a group of TABLES and a pair of bits holds dimensions ``8 * part`` on of a
    step. The lowest of the terms comes first.
    """
    T, d, columns = terms.shape
    L = columns // K
    groups, pairs, steps = -(-L // TABLES), -(-K // 2), -(-d // STEP)
    padded = terms.new_zeros(T, steps * STEP, groups * TABLES, pairs * 2)
    padded[:, :d, :L, :K] = terms.flip(0).unflatten(2, (L, K))
    apart = padded.view(T, steps, 4, 8, groups, TABLES, pairs, 2)
    return apart.permute(4, 6, 0, 1, 5, 7, 2, 3).reshape(groups, pairs, T, steps, STEP, 8).contiguous()
