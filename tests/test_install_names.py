"""Our folder `kernels` and Hugging Face's package of that name live beside each other; commands start anywhere.

From transformers 5.13 on, whatever answers to `import kernels` and satisfies the version range must be the real one.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
import transformers
from transformers.utils import import_utils

from truffle.kernels import registry

ROOT = Path(__file__).parents[1]

# What people do with transformers; ends with what it thinks of the package `kernels`.
EXERCISE = """
import sys
from pathlib import Path
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(sys.argv[1])
sizes = dict(num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2, vocab_size=8)
model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
prompt = torch.tensor([[1, 2, 3]])
generate = dict(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
before = model.generate(prompt, **generate)
model.save_pretrained(folder)
after = AutoModelForCausalLM.from_pretrained(folder).generate(prompt, **generate)
assert after.shape == (1, 7) and torch.equal(before, after)

words = Tokenizer(WordLevel({"<unk>": 0, "few": 1, "keys": 2, "matter": 3}, unk_token="<unk>"))
words.pre_tokenizer = Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
assert AutoTokenizer.from_pretrained(folder)("few keys matter")["input_ids"] == [1, 2, 3]

import truffle.kernels
from truffle.kernels import registry
assert registry.__file__ == sys.argv[2], registry.__file__
assert "retrieve" in registry.ops()
"""

BESIDE_THE_FAKE = """
import kernels
from transformers.utils import is_kernels_available
assert is_kernels_available()
assert kernels.__file__ == str(Path(sys.argv[3]) / "kernels" / "__init__.py"), kernels.__file__
assert kernels.used
"""

# Decorators must hand back what they decorate; the rest is only named or constructed when transformers loads.
FAKE = """
used = []

class Anything:
    def __init__(self, *arguments, **settings):
        used.append(arguments)

def decorator(*names):
    used.append(names)
    return lambda decorated: decorated
"""
DECORATORS = ("use_kernel_forward_from_hub", "use_kernelized_func")


def names_transformers_wants() -> list[str]:
    """What the installed transformers imports from the real package."""
    hub = Path(transformers.__file__).parent / "integrations" / "hub_kernels.py"
    tree = ast.parse(hub.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "kernels"]
    return sorted({alias.name for node in found for alias in node.names})


def install_fake_kernels(folder: Path, version: str) -> None:
    """A distribution named kernels, as an installer would lay it out."""
    package, info = folder / "kernels", folder / f"kernels-{version}.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    lines = [f"{name} = {'decorator' if name in DECORATORS else 'Anything'}" for name in names_transformers_wants()]
    (package / "__init__.py").write_text("\n".join([FAKE, *lines, ""]))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {version}\n")
    (info / "top_level.txt").write_text("kernels\n")


def run(arguments: Sequence[str | Path], cwd: Path, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    hidden = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    hidden |= {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
    offline = {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(arguments, cwd=cwd, env=hidden | offline, capture_output=True, text=True)


def test_transformers_works_with_our_tree_first_on_the_path(tmp_path):
    done = run([sys.executable, "-c", EXERCISE, tmp_path / "saved", registry.__file__], tmp_path, (ROOT,))
    assert done.returncode == 0, done.stderr


def test_transformers_works_beside_a_distribution_named_kernels(tmp_path):
    oldest = getattr(import_utils, "KERNELS_MIN_VERSION", None)
    if oldest is None:
        pytest.skip(f"transformers {transformers.__version__} states no version range for kernels")
    fake = tmp_path / "site"
    install_fake_kernels(fake, oldest)
    arguments = [tmp_path / "saved", registry.__file__, fake]
    done = run([sys.executable, "-c", EXERCISE + BESIDE_THE_FAKE, *arguments], tmp_path, (ROOT, fake))
    assert done.returncode == 0, done.stderr


def test_no_distribution_of_ours_owns_the_import_name_kernels():
    assert "truffle-attention" not in metadata.packages_distributions().get("kernels", [])


@pytest.mark.parametrize("module", ["autotune", "truffle.bench", "truffle.model", "truffle.reports"])
def test_commands_start_from_the_root_of_a_clone(module):
    done = run([sys.executable, "-m", module, "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("module", ["truffle.autotune", "truffle.bench", "truffle.model", "truffle.reports"])
def test_commands_start_anywhere_once_installed(module, tmp_path):
    installed()
    done = run([sys.executable, "-m", module, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_the_console_script_starts_anywhere(tmp_path):
    installed()
    done = run([Path(sys.executable).with_name("truffle-autotune"), "--help"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def installed() -> None:
    try:
        metadata.distribution("truffle-attention")
    except metadata.PackageNotFoundError:
        pytest.skip("truffle-attention is not installed in this environment")
