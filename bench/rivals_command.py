"""What `python -m truffle.bench rivals` does: a record a contender and batch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from truffle.bench.commands import with_batch
from truffle.bench.op_command import host_rates
from truffle.bench.tables import rival_table, show
from truffle.kernels.checks import expect
from truffle.model.arguments import decode_config, require_device

if TYPE_CHECKING:
    import torch

    from truffle.bench.workloads import Workload
    from truffle.model.config import DecodeConfig


def time_rivals(arguments: argparse.Namespace) -> None:
    """Time ours, stored as asked for and in eight bits, beside every rival, batch by batch."""
    import torch

    from truffle.bench.records import write_records
    from truffle.bench.vram import HEADROOM_BYTES
    from truffle.bench.workloads import parse_workload

    base = decode_config(arguments)
    workload = parse_workload(arguments.workload).sampling(arguments.sampled, base.parameters)
    expect(min(arguments.batch) >= 1, "batch", "at least 1", min(arguments.batch))
    require_device("cuda")
    torch.set_num_threads(base.execution.threads)
    weights_bytes = workload.shape.parameters * torch.bfloat16.itemsize
    room = _memory_bytes(arguments.vram_limit, weights_bytes + HEADROOM_BYTES) - weights_bytes - HEADROOM_BYTES
    records = compare(workload, base, arguments.batch, room, "cuda", torch.bfloat16)
    machine = {"vram_limit": arguments.vram_limit,
               "host_read_bytes_per_s": host_rates(base.execution.threads).read_bytes_per_s.p50}  # fmt: skip
    records = [record | machine for record in records]
    show(rival_table(records))
    if arguments.json:
        write_records(arguments.json, records, arguments.command_line)


def compare(
    workload: Workload, base: DecodeConfig, batches: Sequence[int], room_bytes: int, device: str, dtype: torch.dtype
) -> list[dict[str, Any]]:
    """Records of all contenders for each batch, on the same weights, with `room_bytes` of the device beside these."""
    from truffle.bench import synthetic
    from truffle.bench.rivals.contenders import Ground, contenders
    from truffle.bench.rivals.race import race

    records: list[dict[str, Any]] = []
    ground = Ground(workload, *synthetic.material(workload, device, dtype), room_bytes)
    common = {"op": "rivals", "workload": workload.id, "device": device, "context": workload.context,
              "room_bytes": room_bytes}  # fmt: skip
    for batch in batches:
        configs = [with_batch(config, batch) for config in _formats(base)]
        records += [common | record for record in race(ground, contenders(ground, configs))]
    return records


def _formats(config: DecodeConfig) -> list[DecodeConfig]:
    """The config, and the same with eight-bit stores."""
    formats = dict.fromkeys((config.execution.store_format, "int8"))
    return [
        config.model_copy(update={"execution": config.execution.model_copy(update={"store_format": name})})
        for name in formats
    ]


def _memory_bytes(limit: str | None, needed_bytes: int) -> int:
    """What tensors may take of the GPU."""
    import torch

    from truffle.bench.vram import limit_vram, parse_size

    return limit_vram(parse_size(limit) if limit else torch.cuda.mem_get_info()[1], needed_bytes)
