"""The Triton kernels without a GPU: interpreted against the reference, and compiled for every generation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
interpreted = os.environ.get("TRITON_INTERPRET") == "1"

SHARED_BYTES = 99 * 1024  # what one block may have on consumer cards (sm_86, sm_89, sm_120)
SHAPES = [  # dtype, d, K, tokens in a run, centred
    (torch.bfloat16, 128, 10, 98_304, True),
    (torch.bfloat16, 128, 16, 98_304, True),
    (torch.bfloat16, 64, 8, 32, False),
    (torch.float32, 128, 10, 98_304, True),
    (torch.float32, 64, 8, 32, False),
]


@pytest.mark.skipif(interpreted, reason="is the interpreted run")
def test_interpreted_kernels_agree_with_the_reference():
    suite = Path(__file__).with_name("test_conformance.py")
    command = [sys.executable, "-m", "pytest", "-q", str(suite), "-k", "gpu_triton"]
    hidden = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, env=os.environ | hidden, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " skipped" not in run.stdout, run.stdout[-3000:]


@pytest.mark.skipif(interpreted, reason="an interpreted kernel cannot be compiled")
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
@pytest.mark.parametrize(("dtype", "d", "K", "span", "centred"), SHAPES)
def test_hash_codes_compiles_within_shared_memory(capability, dtype, d, K, span, centred):
    compiled = compile_hash_codes(capability, dtype, d, K, span, centred)
    assert compiled.metadata.shared <= SHARED_BYTES
    assert "mma" in compiled.asm["ptx"], "not on the tensor cores"


@pytest.mark.skipif(interpreted, reason="an interpreted kernel cannot be compiled")
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
@pytest.mark.parametrize(
    ("dtype", "d", "group"), [(torch.bfloat16, 128, 4), (torch.bfloat16, 64, 3), (torch.float32, 128, 8)]
)
def test_dense_attend_compiles_within_shared_memory(capability, dtype, d, group):
    from truffle.kernels.dense_attend import gpu_triton

    constants = gpu_triton.tiling(dtype, group, d)
    element = "*bf16" if dtype == torch.bfloat16 else "*fp32"
    types = {"p_lengths": "*i32", "p_partial": "*fp32", "scale": "fp32", "T": "i32", "B": "i32", "per_run": "i32"}
    types |= {name: element for name in ("p_q", "p_keys", "p_values")}
    compiled = compiled_for(capability, gpu_triton.attend_run, constants, types)
    assert compiled.metadata.shared <= SHARED_BYTES
    joined = {"H": 32, "D": d, "WIDE": constants["WIDE"], "RUNS": gpu_triton.MOST_RUNS}
    types = {"p_partial": "*fp32", "p_out": "*fp32", "p_lse": "*fp32", "B": "i32", "runs": "i32"}
    assert compiled_for(capability, gpu_triton.join_runs, joined, types).metadata.shared <= SHARED_BYTES


def compile_hash_codes(capability, dtype, d, K, span, centred):
    from truffle.kernels.hash_codes.gpu_triton import hash_kernel, tiling

    constants = tiling(dtype, K, d, span)
    if not centred:
        constants["p_center"] = None
    types = {
        "p_x": "*bf16" if dtype == torch.bfloat16 else "*fp32",
        "p_planes": "*fp32",
        "p_center": "*fp32",
        "p_codes": "*u16",
        "n": "i32",
        "L": "i32",
        "span": "i32",
    }
    return compiled_for(capability, hash_kernel, constants, types)


def compiled_for(capability, kernel, constants, types):
    """`kernel` compiled for a card of this capability, its pointers aligned to 16 bytes."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = dict(constants)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in constants}
    signature = {name: "constexpr" if name in constants else types[name] for name in kernel.arg_names}
    pointers = [i for i, name in enumerate(kernel.arg_names) if signature[name].startswith("*")]
    aligned = {(i,): [["tt.divisibility", 16]] for i in pointers}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
