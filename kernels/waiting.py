"""What the native kernels' threads do between calls."""

from __future__ import annotations

try:
    from truffle.kernels import _native as native
except ImportError:  # then there are no such threads
    native = None

# Microseconds that a thread looks for its next call before it parks. Layers follow one another within a millisecond
# even where a GPU works between them.
SPIN_US = {"park": 0, "spin": 1000}
WAIT_POLICIES = tuple(SPIN_US)


def set_wait_policy(policy: str) -> None:
    """Say how threads wait, from their next call on: for the whole process, as OMP_WAIT_POLICY does.

    A thread that spins is there at once, where 15 parked ones take 50 us to wake; it takes its core from whatever
    else would run there meanwhile, such as torch's own threads.

    Raises:
        ValueError: there is no such policy.
    """
    if policy not in SPIN_US:
        raise ValueError(f"wait_policy: expected one of {', '.join(WAIT_POLICIES)}, got {policy!r}")
    if native is not None:
        native.spin_before_parking(SPIN_US[policy])
