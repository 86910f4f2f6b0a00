"""What each subcommand of python -m truffle.bench does."""

from __future__ import annotations

import argparse
import json
from typing import Any

from truffle.bench.tables import (
    implementation_table,
    prefill_table,
    record_table,
    show,
    timeline_table,
)
from truffle.model.arguments import decode_config, require_device


def list_implementations(arguments: argparse.Namespace) -> None:
    """Every implementation of every operation, usable here or why not."""
    from truffle.kernels import registry

    rows = [{"op": op, "impl": name, "usable": reason is None, "reason": reason, "isas": _isas(op, name, reason)}
            for op in registry.ops() for name, reason in registry.usable(op).items()]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        show(implementation_table(rows))


def _isas(op: str, name: str, reason: str | None) -> list[str]:
    from truffle.kernels import isa, registry

    if reason is not None:
        return []
    return [level for level in registry.get(op, name).needs.isas if isa.why_not(level) is None]


def time_decode(arguments: argparse.Namespace) -> None:
    """Time decode steps and print one record."""
    import torch

    from truffle.bench import workloads
    from truffle.bench.accuracy import require_positions
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect
    from truffle.model.weights import load

    config = with_batch(decode_config(arguments), arguments.batch)
    for name in ("context", "steps"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(arguments, name)}")
    require_device(arguments.device)
    torch.set_num_threads(config.execution.threads)
    timeline: list[dict[str, Any]] = []
    if arguments.workload:
        expect(arguments.engine == "reference", "engine", "reference for a --workload", arguments.engine)
        workload = workloads.parse_workload(arguments.workload).sampling(arguments.sampled, config.parameters)
        own_bytes = _limit_vram(arguments, workload.shape, config, workload.context)
        if arguments.fill_vram:
            config = _filled(workload, config, own_bytes)
        record, timeline = _time_workload(workload, config, arguments)
        record["model"] = workload.model
    else:
        expect(not arguments.fill_vram, "fill_vram", "a --workload, whose memory is known before", arguments.model)
        time_engine = _engine(arguments.engine)
        dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
        model = load(arguments.model, arguments.device, dtype)
        _limit_vram(arguments, model.shape, config, arguments.context)
        require_positions(model, arguments.context, arguments.steps)
        record = time_engine(model, config, arguments.context, arguments.steps)
        record |= {"model": arguments.model, "engine": arguments.engine}
    record = {"op": "decode", "device": arguments.device, **described(config), **record}
    if arguments.vram_limit:
        record["vram_limit"] = arguments.vram_limit
    show(record_table(record))
    if timeline:
        show(timeline_table(timeline))
    if arguments.json:
        write_records(arguments.json, [record, *timeline], arguments.command_line)


def _engine(name: str) -> Any:
    """What times a model's steps."""
    if name == "reference":
        from truffle.bench.decode import time_model

        return time_model
    from truffle.bench.transformers_steps import time_transformers

    return time_transformers


def _time_workload(
    workload: Any, config: Any, arguments: argparse.Namespace
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Whole steps on a GPU; on the CPU a few layers, scaled."""
    import torch

    from truffle.bench import decode, whole_step

    if arguments.device == "cuda":
        return whole_step.time_steps(workload, config, arguments.steps, "cuda", torch.bfloat16)
    return decode.time_workload(workload, config, arguments.steps, torch.bfloat16), []


def _limit_vram(arguments: argparse.Namespace, shape: Any, config: Any, context: int) -> int | None:
    """Enforce the limit there is; returns the bytes that it leaves for tensors."""
    from truffle.bench.vram import limit_vram, parse_size, static_bytes
    from truffle.kernels.checks import expect

    if arguments.vram_limit is None:
        return None
    size = parse_size(arguments.vram_limit)
    expect(arguments.device == "cuda", "vram_limit", "device cuda", arguments.device)
    return limit_vram(size, static_bytes(shape, config, context))


def _filled(workload: Any, config: Any, own_bytes: int | None) -> Any:
    """The config with as many dense layers as the limit holds beside what is needed in passing."""
    from truffle.bench.vram import HEADROOM_BYTES, building_bytes, filled
    from truffle.kernels.checks import expect

    expect(own_bytes is not None, "fill_vram", "a --vram-limit to fill", None)
    assert own_bytes is not None
    room = own_bytes - HEADROOM_BYTES - building_bytes(workload.shape, workload.context)
    return filled(workload.shape, config, workload.context, room)


def time_prefill(arguments: argparse.Namespace) -> None:
    """Time a prefill with tables and without, and print a record and a table of its layers."""
    import torch

    from truffle.bench import prefill, workloads
    from truffle.bench.records import write_records
    from truffle.kernels.checks import expect

    config, workload = decode_config(arguments), workloads.parse_workload(arguments.workload)
    expect(arguments.rounds >= 1, "rounds", "at least 1", arguments.rounds)
    require_device(arguments.device)
    torch.set_num_threads(config.execution.threads)
    shape = prefill.built_shape(workload, config, arguments.layers)
    _limit_vram(arguments, shape, config, workload.context)
    record, layers = prefill.time_prefill(
        shape, config, workload.context, arguments.rounds, arguments.device, torch.bfloat16
    )
    common = {"device": arguments.device, "workload": arguments.workload, **described(config)}
    if arguments.vram_limit:
        common["vram_limit"] = arguments.vram_limit
    record = {"op": "prefill", **common, **record}
    show(record_table(record))
    show(prefill_table(layers))
    if arguments.json:
        write_records(arguments.json, [record, *layers], arguments.command_line)


def with_batch(config: Any, batch: int) -> Any:
    """The config for another batch."""
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, got {batch}")
    return config.model_copy(update={"execution": config.execution.model_copy(update={"batch_size": batch})})


def described(config: Any) -> dict[str, Any]:
    """A config as flat strings and numbers."""
    execution = config.execution
    return {
        "method": config.method,
        "parameters": config.parameters.model_dump_json(),
        "batch": execution.batch_size,
        "threads": execution.threads,
        "isa": execution.isa,
        "wait_policy": execution.wait_policy,
        "micro_batches": execution.micro_batches,
        "store_format": execution.store_format,
        "codes": execution.codes,
        "gather": execution.gather,
        "implementations": ",".join(f"{op}={name}" for op, name in config.implementations.items()),
    }
