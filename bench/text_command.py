"""python -m truffle.bench accuracy without --tasks and the like: one method's error on a text."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from truffle.bench.accuracy_tables import accuracy_table
from truffle.bench.commands import described
from truffle.bench.comparison import loaded
from truffle.bench.tables import show
from truffle.model.arguments import decode_config, read_prompt


def measure_text_accuracy(arguments: argparse.Namespace) -> None:
    """Compare a method with exact decoding, teacher-forced, and print the summary."""
    import torch
    from rich.console import Console
    from rich.progress import track

    from truffle.bench import accuracy
    from truffle.bench.records import write_records
    from truffle.bench.text import SOURCE
    from truffle.model.generate import Sampler

    config = decode_config(arguments)
    for name in ("samples", "steps", "context"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(arguments, name)}")
    own = Sampler(arguments.temperature)  # made here, so that a wrong temperature is refused even where unused
    torch.set_num_threads(config.execution.threads)
    model = loaded(arguments)
    if arguments.prompt_file:
        source = str(arguments.prompt_file)
        runs = [_run_prompt(model, arguments, own)]
    else:
        source, temperature = SOURCE, arguments.temperature if arguments.continuation == "dense" else None
        setting = accuracy.Setting(arguments.context, arguments.samples, arguments.steps, temperature)
        print(f"exact run over {setting.samples} x {setting.context} tokens of {SOURCE}", file=sys.stderr)
        runs = accuracy.dense_runs(model, setting, config.execution.threads)
    numbered = track(list(enumerate(runs)), "sampled runs", transient=True, console=Console(stderr=True))
    steps = [step for sample, run in numbered for step in accuracy.measure(model, run, config, sample)]
    summary = {
        "op": "accuracy", "model": arguments.model, "text": source, "context": len(runs[0].prompt),
        "samples": len(runs), "steps": arguments.steps,
        "continuation": "dense" if arguments.prompt_file else arguments.continuation,
        "device": arguments.device, "dtype": arguments.dtype,
        **described(config), **accuracy.summarise(steps), **_ends(steps),
    }  # fmt: skip
    print(f"{summary['method']} {_brief(config)} on {summary['model']}, {summary['context']} tokens of {source}")
    show(accuracy_table(summary))
    if arguments.json:
        write_records(
            arguments.json, [summary, *({"op": "accuracy_step", **step} for step in steps)], arguments.command_line
        )


def _run_prompt(model: Any, arguments: argparse.Namespace, own: Any) -> Any:
    """An exact run over a file, continued by the dense model itself."""
    import torch

    from truffle.bench.accuracy import require_positions
    from truffle.bench.dense_run import run_dense

    text, steps = read_prompt(arguments.prompt_file), arguments.steps
    tokens = torch.tensor(model.tokenizer()(text)["input_ids"], dtype=torch.int64)
    require_positions(model, len(tokens), steps)
    return run_dense(model, tokens, steps, arguments.threads, own)


def _brief(config: Any) -> str:
    """The method's parameters, on one line."""
    shown = config.parameters.model_dump(mode="json", exclude_none=True)
    if shown.get("family") == "simhash":
        del shown["family"]
    probing = shown.pop("probing", {"kind": "none"})
    if probing["kind"] != "none":
        shown["probing"] = f"{probing['kind']} {probing['amount']}"
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _ends(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Mean KL of the first and last 100 tokens of runs long enough to have both."""
    longest = 1 + max(step["step"] for step in steps)
    if longest < 200:
        return {}
    first = [step["kl"] for step in steps if step["step"] < 100]
    last = [step["kl"] for step in steps if step["step"] >= longest - 100]
    return {"kl_first_100": sum(first) / len(first), "kl_last_100": sum(last) / len(last)}
