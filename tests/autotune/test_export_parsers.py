"""Exports are read by the programs they are for, where these are installed.

MagicPIG is no package: MAGICPIG_SOURCE names a checkout of it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shlex
from pathlib import Path

import pytest

from truffle.autotune.export import export
from truffle.model import tuned
from truffle.model.config import DecodeConfig

TUNED = tuned.load(Path(__file__).parent / "exports" / "tuned.json")
ABSENT = "the export's own parser comes with {}, which is not installed"


def arguments(to: str, program: str) -> list[str]:
    """Words behind `program` on the last line of an export."""
    words = shlex.split(export(TUNED, to).text.splitlines()[-1].replace("${MODEL:?}", "model"))
    return words[words.index(program) + 1 :]


def is_the_tuned_one(entry: dict) -> bool:
    return DecodeConfig.model_validate(entry) == TUNED.config


def test_transformers_carries_the_entry(tmp_path):
    transformers = pytest.importorskip("transformers", reason=ABSENT.format("transformers"))
    entry = json.loads(export(TUNED, "transformers").text)
    transformers.LlamaConfig(num_hidden_layers=1, **entry).save_pretrained(tmp_path)
    assert is_the_tuned_one(transformers.AutoConfig.from_pretrained(tmp_path).truffle)
    transformers.GenerationConfig(**entry).save_pretrained(tmp_path)
    assert is_the_tuned_one(transformers.GenerationConfig.from_pretrained(tmp_path).truffle)


def test_vllm_parses_the_command(monkeypatch):
    monkeypatch.setenv("VLLM_TARGET_DEVICE", "cpu")
    engine = pytest.importorskip("vllm.engine.arg_utils", reason=ABSENT.format("vllm"))
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # pyright: ignore[reportMissingImports]
    from vllm.v1.attention.backends.registry import AttentionBackendEnum  # pyright: ignore[reportMissingImports]

    words = arguments("vllm", "serve")
    given = engine.EngineArgs.add_cli_args(FlexibleArgumentParser()).parse_args(["--model", *words])
    found = engine.EngineArgs.from_cli_args(given)
    assert is_the_tuned_one(found.additional_config["truffle"])
    assert (str(found.attention_backend), found.max_num_seqs, found.max_model_len) == ("CUSTOM", 2, 98_432)
    with pytest.raises(ValueError, match="CUSTOM"):  # as the export says, without a plugin
        AttentionBackendEnum.CUSTOM.get_class()


def test_sglang_parses_the_command_once_a_plugin_names_the_backend():
    server = pytest.importorskip("sglang.srt.server_args", reason=ABSENT.format("sglang"))
    from sglang.srt.arg_groups.choices import add_attention_backend_choices  # pyright: ignore[reportMissingImports]

    def parse() -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        server.ServerArgs.add_cli_args(parser)
        return parser.parse_args(arguments("sglang", "sglang.launch_server"))

    with pytest.raises(SystemExit):
        parse()
    add_attention_backend_choices(["truffle"])
    found = parse()
    assert is_the_tuned_one(json.loads(found.json_model_override_args)["truffle"])
    assert (found.decode_attention_backend, found.cuda_graph_backend_decode) == ("truffle", "disabled")
    assert (found.context_length, found.max_running_requests) == (98_432, 2)


def test_sparse_attention_hub_builds_its_maskers():
    hub = pytest.importorskip("sparse_attention_hub", reason=ABSENT.format("sparse_attention_hub"))
    from sparse_attention_hub.sparse_attention import research_attention  # pyright: ignore[reportMissingImports]
    from sparse_attention_hub.sparse_attention.research_attention import maskers  # pyright: ignore[reportMissingImports]

    classes = {**vars(maskers.fixed), **vars(maskers.sampling.implementations)}
    body = json.loads(export(TUNED, "sparse-attention-hub").text)
    configs = [classes[entry.pop("type")](**entry) for entry in body["masker_configs"]]
    whole = research_attention.ResearchAttentionConfig(masker_configs=configs)
    sink, window, pig = hub.ResearchAttention.create_from_config(whole).maskers
    assert (sink.sink_size, window.window_size, pig.lsh_k, pig.lsh_l, pig.center) == (4, 64, 9, 20, True)


def test_magicpigs_bench_parses_the_command():
    source = os.environ.get("MAGICPIG_SOURCE")
    if not source:
        pytest.skip("the export's own parser is in MagicPIG's examples/bench.py: MAGICPIG_SOURCE names no checkout")
    tree = ast.parse((Path(source) / "examples" / "bench.py").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "parser.add_argument":
            options = {
                k.arg: {"int": int, "str": str}.get(ast.unparse(k.value)) for k in node.keywords if k.arg == "type"
            }
            parser.add_argument(*(ast.literal_eval(word) for word in node.args), **options)
    found = parser.parse_args(arguments("magicpig", "bench.py"))
    assert (found.B, found.K, found.L, found.G, found.P, found.M) == (2, 9, 120, 128, 98_304, 98_496)
