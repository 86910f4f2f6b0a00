"""python -m truffle.model generate: continue prompts with any attention method."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from truffle.model.arguments import add_decode_arguments, decode_config, read_prompt, require_device
from truffle.model.parser import OneLineParser


def main(argv: list[str] | None = None) -> int:
    parser = OneLineParser(prog="python -m truffle.model", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    generate = commands.add_parser("generate", help="continue one or more prompts, greedily")
    generate.add_argument("--model", default="smollm2", help="smollm2, a safetensors folder or a .gguf file")
    prompt = generate.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", action="append", help="the prompt itself; repeatable")
    prompt.add_argument("--prompt-file", action="append", type=Path, help="a UTF-8 text file; repeatable")
    generate.add_argument("--max-new-tokens", type=int, default=128)
    generate.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (%(default)s)")
    generate.add_argument("--sample-seed", type=int, default=0, help="of the draws at a temperature (%(default)s)")
    generate.add_argument("--ignore-end", action="store_true", help="go on after the end token")
    generate.add_argument("--errors", action="store_true", help="estimate how far each head is off; slow with lsh")
    generate.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    generate.add_argument("--json", action="store_true", help="print one JSON object instead of streaming")
    add_decode_arguments(generate)
    arguments = parser.parse_args(argv)
    try:
        run_generate(arguments)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 2
    return 0


def run_generate(arguments: argparse.Namespace) -> None:
    """Generate, streaming to stdout, and close with tokens/s and density."""
    config = decode_config(arguments)
    if arguments.max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: expected at least 1, got {arguments.max_new_tokens}")
    require_device(arguments.device)
    texts = arguments.prompt or [read_prompt(path) for path in arguments.prompt_file]
    import torch

    from truffle.model.error_meter import tell_errors
    from truffle.model.generate import DensityMeter, Sampler, generate
    from truffle.model.head_meter import HeadMeter
    from truffle.model.llama import Decoder
    from truffle.model.weights import load

    sampler = Sampler(arguments.temperature, arguments.sample_seed)
    torch.set_num_threads(max(config.execution.threads, 1))
    dtype = torch.float32 if arguments.device == "cpu" else torch.bfloat16
    model = load(arguments.model, arguments.device, dtype)
    tokenizer = model.tokenizer()
    prompts = [torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int64) for text in texts]
    _require_positions(max(map(len, prompts)), arguments.max_new_tokens, model.shape.max_positions)
    decoder = Decoder(model.shape, model.weights, config)
    meter, heads, errors = DensityMeter(), HeadMeter(), tell_errors(decoder) if arguments.errors else None
    decoder.observer = _together(meter, heads, *([errors] if errors else []))
    end_tokens = frozenset() if arguments.ignore_end else model.end_tokens
    produced: list[list[int]] = [[] for _ in prompts]
    stream = _Stream(tokenizer) if len(prompts) == 1 and not arguments.json else None
    started = first = last = time.perf_counter()
    for new in generate(decoder, prompts, arguments.max_new_tokens, end_tokens, sampler):
        last = time.perf_counter()
        first = last if not any(produced) else first
        for request, token in new.items():
            produced[request].append(token)
        if stream:
            stream.write(produced[0])
    steps = sum(map(len, produced)) - sum(1 for tokens in produced if tokens)
    summary: dict[str, Any] = {
        "prompt_tokens": [len(prompt) for prompt in prompts],
        "new_tokens": [len(tokens) for tokens in produced],
        "prefill_s": first - started,
        "tokens_per_s": steps / (last - first) if steps else None,
        "density": meter.density,
        "keys_by_head": heads.by_layer(),
        **({"errors": errors.summary(), "error_by_head": errors.by_layer()} if errors else {}),
        "config": config.model_dump(mode="json"),
        "implementations": decoder.ops.names,
    }
    if arguments.json:
        print(json.dumps({"text": tokenizer.batch_decode(produced), **summary}, indent=2))
        return
    if not stream:
        for number, tokens in enumerate(produced):
            print(f"--- request {number}\n{tokenizer.decode(tokens)}")
    print(_closing_line(summary))
    if line := heads.line():
        print(f"--- {line}")
    if errors:
        print(_error_line(config.method, errors.summary()))


def _together(*observers: Any) -> Any:
    def observe(*seen: Any) -> None:
        for observer in observers:
            observer(*seen)

    return observe


def _require_positions(prompt: int, new: int, most: int) -> None:
    """Refuse a prompt that leaves no position for a new token; warn where the new ones may run out of them."""
    if prompt > most - 1:
        raise ValueError(f"prompt: expected at most {most - 1} tokens, got {prompt}")
    if prompt + new > most:
        beyond = f"beyond the {most} positions that the model was made for"
        print(f"warning: {prompt} prompt tokens and {new} new ones go {beyond}", file=sys.stderr)


class _Stream:
    """Prints text as it becomes certain; a token may end inside a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._printed = tokenizer, 0

    def write(self, tokens: list[int]) -> None:
        text = self._tokenizer.decode(tokens)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            print(text[self._printed :], end="", flush=True)
            self._printed = len(text)


def _closing_line(summary: dict[str, Any]) -> str:
    speed = "-" if summary["tokens_per_s"] is None else f"{summary['tokens_per_s']:.2f} tokens/s"
    density = "everything attended" if summary["density"] is None else f"density {summary['density']:.4f}"
    read, new = sum(summary["prompt_tokens"]), sum(summary["new_tokens"])
    return f"\n--- {read} prompt tokens in {summary['prefill_s']:.1f} s, {new} new: {speed}, {density}"


def _error_line(method: str, found: dict[str, Any]) -> str:
    if not found["told"]:
        if found["untold"]:
            return f"--- error: not known, a sample of {method} does not tell how far it is off"
        return "--- error: none, every key was attended"
    mean, most = (f"{found[f'output_error_{name}']:.4f}" for name in ("mean", "p95"))
    share = found["told"] / (found["told"] + found["untold"])
    part = "" if share == 1 else f", known of {share:.0%} of them"
    return f"--- estimated error of a head's output: {mean} on average, {most} or less for 95% of heads and steps{part}"


if __name__ == "__main__":
    sys.exit(main())
