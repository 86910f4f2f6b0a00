"""python -m truffle.bench accuracy: its kinds, and which options each of them takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truffle.bench import long_command, planted_command, task_command, text_command, text_comparison_command
from truffle.bench.comparison import DENSITIES, add_comparison_arguments
from truffle.kernels.checks import expect
from truffle.model.arguments import add_decode_arguments


@dataclass(frozen=True)
class Kind:
    """What is measured, and the options that say how beside those that all kinds take, each with its default."""

    run: Callable[[argparse.Namespace], None]
    options: dict[str, Any]


_COMPARED = {"methods": None, "densities": DENSITIES}
KINDS = {
    "text": Kind(
        text_command.measure_text_accuracy,
        {"model": "smollm2", "context": 4096, "steps": 32, "continuation": "text", "temperature": 0.0,
         "prompt_file": None},
    ),
    "texts": Kind(
        text_comparison_command.compare_on_texts, {"model": "smollm2", "context": 4096, "steps": 32, **_COMPARED}
    ),
    "tasks": Kind(
        task_command.measure_task_accuracy, {"model": "smollm2", "context": 4096, "setup": "A", **_COMPARED}
    ),
    "long_generation": Kind(
        long_command.measure_long_accuracy, {"model": "smollm2", "context": 256, "temperature": 0.7, **_COMPARED}
    ),
    "planted": Kind(planted_command.measure_planted_accuracy, {"context": 32_768, **_COMPARED}),
}  # fmt: skip


def add_accuracy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all kinds; those that a kind has a default for are None here until it is known."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--texts", metavar="KIND[,KIND]", help="methods on texts instead: reference, code, essays")
    kind.add_argument("--tasks", metavar="TASK[,TASK]", help="scores by task instead: niah, vt or such, ruler for all")
    kind.add_argument(
        "--long-generation", type=int, metavar="TOKENS", help="instead, error along a dense continuation of an opening"
    )
    kind.add_argument("--planted", action="store_true", help="instead, scores on planted keys, without a model")
    parser.add_argument("--model", help="smollm2, a safetensors folder or a .gguf file (smollm2)")
    parser.add_argument("--context", type=int, help=f"tokens of a prompt, or keys ({_defaults('context')})")
    parser.add_argument("--samples", type=int, default=2, help="texts, or prompts a task (%(default)s)")
    parser.add_argument("--steps", type=int, help="tokens decoded after each text (32)")
    parser.add_argument(
        "--continuation", choices=("text", "dense"),
        help="what is teacher-forced: the text itself (text), or the dense model's own continuation",
    )  # fmt: skip
    parser.add_argument("--temperature", type=float, help=f"of the dense continuation ({_defaults('temperature')})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(%(default)s)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32",
        help="type that the model's weights are loaded in and it computes in, or of planted vectors (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--prompt-file", type=Path, help="one text instead, continued by the dense model itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary, and what it is of")
    group = parser.add_argument_group("comparing methods: with --texts, --tasks, --long-generation and --planted")
    add_comparison_arguments(group)
    group.add_argument("--setup", choices=("A", "B"), help="question of a task read exactly, or through the method (A)")
    add_decode_arguments(parser)


def measure_accuracy(arguments: argparse.Namespace) -> None:
    """Measure what is asked for."""
    name = next((name for name in KINDS if getattr(arguments, name, None) not in (None, False)), "text")
    _take(arguments, name)
    KINDS[name].run(arguments)


def _take(arguments: argparse.Namespace, name: str) -> None:
    """Fill in the kind's defaults; raise ValueError for an option of another kind."""
    taken = KINDS[name].options
    for option in {option: None for kind in KINDS.values() for option in kind.options}:
        given = getattr(arguments, option)
        having = [_flag(kind) for kind in KINDS if option in KINDS[kind].options]
        expect(option in taken or given is None, option, f"{' or '.join(having)} with it", _flag(name))
        if given is None and option in taken:
            setattr(arguments, option, taken[option])


def _flag(kind: str) -> str:
    return "a text" if kind == "text" else "--" + kind.replace("_", "-")


def _defaults(option: str) -> str:
    """The kinds' defaults, each beside who has it."""
    found = {kind: KINDS[kind].options[option] for kind in KINDS if option in KINDS[kind].options}
    others = (f"{value:,} with {_flag(kind)}" for kind, value in found.items() if value != found["text"])
    return "; ".join([f"{found['text']:,}", *others])
