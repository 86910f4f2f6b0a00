"""How a decoder's work is done: batch, threads, formats and places."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from truffle.model.schema import Frozen

StoreFormat = Literal["bfloat16", "int8", "float32"]
CodesPlace = Literal["auto", "host", "device"]
Gathering = Literal["auto", "link"]
Name = Annotated[str, StringConstraints(pattern="^[a-z0-9_]+$", max_length=64)]


class Execution(Frozen):
    """How the work is done; none of it changes what is computed beyond rounding.

    Attributes:
        codes: where the codes of method `scan` are kept and scanned: on the host with the rows, or on the model's
            device, which then tells the host whom to attend; "auto" takes the device.
        gather: who reads the sampled rows of method `scan`: "auto", the host or device that has them; "link", the
            model's device, over the link from pinned memory of the host (where it is the CPU, from its own).
    """

    batch_size: int = Field(default=1, ge=1, le=2**31 - 1)
    threads: int = Field(default=1, ge=1, le=2**31 - 1)
    isa: Name = "auto"
    pinning: Literal["none", "cores"] = "none"
    wait_policy: Literal["park", "spin"] = "park"
    micro_batches: Literal[1, 2] = 1
    store_format: StoreFormat = "bfloat16"
    codes: CodesPlace = "auto"
    gather: Gathering = "auto"
