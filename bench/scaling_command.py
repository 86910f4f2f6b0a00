"""What `python -m truffle.bench scaling` and `transfers` do: whole steps by threads, batch and context."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from truffle.bench.commands import described, with_batch
from truffle.bench.tables import scaling_table, show, transfer_table
from truffle.kernels.checks import expect
from truffle.model.arguments import decode_config, require_device

if TYPE_CHECKING:
    from rich.table import Table

    from truffle.model.config import DecodeConfig


def time_transfers(arguments: argparse.Namespace) -> None:
    """Time whole steps by batch and context, and print what crosses the link in each."""
    base = decode_config(arguments)
    configs = [with_batch(base, batch) for batch in arguments.batch]
    _conclude(arguments, list(_timed(arguments, "transfers", configs)), transfer_table)


def time_scaling(arguments: argparse.Namespace) -> None:
    """Time whole steps by thread count and batch, and print tokens a second and where the time goes."""
    base = decode_config(arguments)
    expect(min(arguments.sweep_threads) >= 1, "sweep_threads", "at least 1", min(arguments.sweep_threads))
    configs = [
        _with_threads(with_batch(base, batch), threads)
        for batch in arguments.batch
        for threads in arguments.sweep_threads
    ]
    _conclude(arguments, list(_timed(arguments, "scaling", configs)), scaling_table)


def _with_threads(config: DecodeConfig, threads: int) -> DecodeConfig:
    return config.model_copy(update={"execution": config.execution.model_copy(update={"threads": threads})})


def _timed(arguments: argparse.Namespace, op: str, configs: list[DecodeConfig]) -> Iterator[dict[str, Any]]:
    """A record a workload and config; weights and keys are made once a workload."""
    import torch

    from truffle.bench import synthetic, whole_step
    from truffle.bench.workloads import parse_workload
    from truffle.kernels.memory import release_memory

    device = arguments.device
    require_device(device)
    for name in arguments.workload:
        workload = parse_workload(name).sampling(arguments.sampled, configs[0].parameters)
        material = synthetic.material(workload, device, torch.bfloat16)
        for config in configs:
            how = config.execution
            print(f"{name}: batch {how.batch_size}, {how.threads} threads", file=sys.stderr)
            torch.set_num_threads(how.threads)
            record, _ = whole_step.time_steps(workload, config, arguments.steps, device, torch.bfloat16, material)
            yield {"op": op, "device": device, "workload": name, **described(config), **record}
            release_memory()
            if device == "cuda":
                torch.cuda.empty_cache()


def _conclude(arguments: argparse.Namespace, records: list[dict[str, Any]], table: Any) -> None:
    from truffle.bench.records import write_records

    shown: Table = table(records)
    show(shown)
    if arguments.json:
        write_records(arguments.json, records, arguments.command_line)
