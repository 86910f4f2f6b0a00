"""A kernel that ends when the host says so: what is launched behind it, in the same graph, starts at once."""

# pyright: reportOperatorIssue=false, reportCallIssue=false

import torch
import triton
import triton.language as tl


def wait_for_host(opened: torch.Tensor, turn: torch.Tensor) -> None:
    """Count one more turn, and end when `opened` has come that far.

    Args:
        opened: [1] int32 in pinned memory of the host, which counts it up; it may wrap.
        turn: [1] int32 on the device, as many as have been waited for.
    """
    with torch.cuda.device_of(turn):
        await_turn[(1,)](opened, turn, num_warps=1)


@triton.jit
def await_turn(
    p_opened,  # [1]
    p_turn,  # [1]
):
    turn = tl.load(p_turn) + 1
    tl.store(p_turn, turn)
    opened = tl.load(p_opened, volatile=True)
    while opened - turn < 0:
        opened = tl.load(p_opened, volatile=True)
