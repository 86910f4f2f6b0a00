"""The README's example of transformers, on a tiny model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.model.hf_models import VOCABULARY, tiny, tuned_file
from truffle.model.config import DecodeConfig, LshParameters

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def save_tokenizer(folder: Path) -> None:
    """One token a byte or so."""
    words = {"[pad]": 0, "[unk]": 1} | {chr(32 + at): 2 + at for at in range(VOCABULARY - 2)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    names = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[pad]", unk_token="[unk]", model_input_names=names
    ).save_pretrained(folder)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    section = re.search(r"^## With transformers\n.*?```python\n(.*?)```", README, re.M | re.S)
    assert section
    tiny().save_pretrained(tmp_path / "model")
    save_tokenizer(tmp_path / "model")
    tuned_file(tmp_path, DecodeConfig(parameters=LshParameters(K=4, L=20, window=8, seal_tokens=16)))
    (tmp_path / "prompt.txt").write_text("One of several sentences. " * 20)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(section[1], found)
    assert found["answers"].shape == (2, found["inputs"].input_ids.shape[1] + 64)
