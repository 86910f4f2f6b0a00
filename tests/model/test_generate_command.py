"""python -m truffle.model generate: what it prints and refuses."""

from __future__ import annotations

import json

import pytest

from tests.model.tiny import save_tiny_llama
from tests.refused import the_error
from truffle.model.__main__ import main
from truffle.model.weights import load


@pytest.mark.parametrize(
    "options",
    [
        ["oracle_topk", "--budget", "5"],
        ["oracle_topp", "--mass", "0.5"],
        ["quest", "--budget", "0.3", "--page-size", "2"],
        ["oracle_sampling", "--budget", "4", "--draws", "systematic"],
        ["uniform", "--budget", "0.2", "--seed", "3"],
        ["priority", "--budget", "0.2"],
        ["vattention", "--heavy", "lsh", "--K", "3", "--heavy-budget", "3", "--base-budget", "4", "--epsilon", "0.5"],
    ],
    ids=lambda options: options[0],
)
def test_every_method_generates(options, capsys):
    command = ["generate", "--prompt", "The capital of France is", "--max-new-tokens", "3", "--json"]
    assert main([*command, "--method", *options, "--window", "2", "--sink", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["method"] == options[0]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A folder with random weights made for 16 positions, and SmolLM2's tokenizer."""
    folder = tmp_path_factory.mktemp("small") / "model"
    tokenizer = load("smollm2").tokenizer()
    save_tiny_llama(folder, vocab_size=len(tokenizer), max_position_embeddings=16)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens: expected at least 1"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt"),
        (["--prompt", "x", "--temperature", "-1"], "temperature: expected at least 0"),
        (["--prompt", "x", "--L", "0"], "L: Input should be greater than or equal to 1"),
        (["--prompt", "x", "--impl", "nope=cpu_numba"], "unknown operation 'nope'"),
        (["--prompt", "x", "--isa", "avx9000"], "isa: expected one of scalar"),
        (["--prompt", "x", "--dense-layers", "0,a"], "dense_layers: expected layer numbers such as 0,16, got '0,a'"),
        (["--prompt", "x", "--ball", "1", "--K", "1"], "ball: expected less than K = 1, got 1"),
        (["--prompt", " a" * 16], "prompt: expected at most 15 tokens, got 16"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_generate_refuses_in_one_line(small_model, options, message, capsys):
    assert main(["generate", "--model", str(small_model), *options]) == 2
    assert message in the_error(capsys)


def test_generate_names_what_is_broken_on_disk(small_model, tmp_path, capsys):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("café".encode("latin-1"))
    assert main(["generate", "--model", str(small_model), "--prompt-file", str(latin)]) == 2
    assert f"{latin}: expected UTF-8 text, got unexpected end of data at byte 3" in the_error(capsys)
    save_tiny_llama(tmp_path / "model")
    capsys.readouterr()  # transformers says that it saves
    assert main(["generate", "--model", str(tmp_path / "model"), "--prompt", "x"]) == 2
    assert f"{tmp_path / 'model'}: expected a tokenizer that transformers can read" in the_error(capsys)


def test_generate_warns_once_beyond_the_models_positions(small_model, capsys):
    command = ["generate", "--model", str(small_model), "--prompt", " a" * 10, "--ignore-end", "--max-new-tokens"]
    assert main([*command, "6"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*command, "7"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: 10 prompt tokens and 7 new ones go beyond the 16 positions that the model was made for"]


def test_generate_prints_text_speed_and_density(capsys):
    command = ["generate", "--prompt", "The capital of France is", "--max-new-tokens", "6"]
    assert main([*command, "--method", "lsh", "--window", "2", "--sink", "1", "--seal-tokens", "1"]) == 0
    printed = capsys.readouterr().out
    assert "tokens/s, density 0." in printed
    assert main([*command, "--json", "--prompt", "Two and two make"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["text"]) == 2
    assert "Paris" in found["text"][0]
    assert found["new_tokens"][0] <= 6
