"""The house keeps its shape: imports go one way, packages stay cold and narrow, flags stay in their files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("kernels", "model", "bench", "autotune")
FOLDERS = (*LAYERS, "reports")
COMMAND_LINES = ("cli.py", "__main__.py")
HEAVY = ("torch", "triton", "numba", "transformers")
COLD = (
    "truffle",
    "truffle.kernels.registry",
    "truffle.kernels.profiles",
    "truffle.model.config",
    "truffle.model.tuned",
)
SOURCES = [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that `path`, relative to the root, imports, lazily or not."""
    package = ("truffle", *path.parts[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def faults(path: Path, source: str) -> list[str]:
    """What is wrong with the imports of `path`: back edges, and our folders under another name than truffle's."""
    own = path.parts[0]
    allowed: set[str] = {own} if own == "reports" else set(LAYERS[: LAYERS.index(own) + 1])
    if path.name in COMMAND_LINES:
        allowed.add("reports")
    refused = {*FOLDERS} - allowed
    found = []
    for line, name in imports(path, source):
        top, *rest = name.split(".")
        if top in FOLDERS or (top == "truffle" and rest and rest[0] in refused):
            found.append(f"{path}:{line}: imports {name}")
    return found


def test_the_walk_sees_every_folder():
    assert {path.parts[0] for path in SOURCES} == {*FOLDERS}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_go_one_way(path):
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "refused"),
    [
        ("kernels/store.py", "from truffle.model import cache", True),
        ("kernels/store.py", "def f():\n    import truffle.bench.timing", True),
        ("kernels/retrieve/reference.py", "from ...model import cache", True),
        ("model/cache.py", "from truffle import bench", True),
        ("bench/__main__.py", "from truffle.autotune.cli import main", True),
        ("bench/gate.py", "from truffle.reports import render", True),
        ("reports/__main__.py", "from truffle.kernels import registry", True),
        ("kernels/store.py", "import kernels", True),
        ("model/cache.py", "from kernels.store import Store", True),
        ("bench/gate.py", "from truffle.kernels import registry", False),
        ("reports/render.py", "from . import tables", False),
        ("autotune/cli.py", "from truffle.reports import render", False),
    ],
)
def test_the_walk_notices_what_it_should(path, source, refused):
    assert bool(faults(Path(path), source)) == refused


@pytest.mark.parametrize("folder", ["kernels", "model", "bench", "reports", "tests"])
def test_folders_that_must_not_be_regular_packages(folder):
    """A regular package named `kernels` would be taken for Hugging Face's, and break transformers."""
    assert list((ROOT / folder).rglob("__init__.py")) == []


def test_autotune_is_a_regular_package_whose_main_only_calls_the_command_line():
    """Regular, or an installed distribution named autotune would win over the folder."""
    assert (ROOT / "autotune" / "__init__.py").is_file()
    tree = ast.parse((ROOT / "autotune" / "__main__.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if node not in imports and not _is_docstring(node)]
    ours = [ast.unparse(node) for node in imports if "truffle" in ast.unparse(node)]
    assert ours == ["from truffle.autotune.cli import main"]
    assert len(rest) == 1
    assert re.fullmatch(
        r"(if __name__ == '__main__':\s+)?(sys\.exit|raise SystemExit)?\(?main\(\)\)?", ast.unparse(rest[0])
    )


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("module", COLD)
def test_reading_records_and_the_registry_loads_nothing_heavy(module):
    command = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def misplaced_flags(text: str) -> list[str]:
    """CMake commands that name -m flags, other than the lists of one instruction set each."""
    commands = re.findall(r"(\w+)\s*\(([^()]*)\)", re.sub(r"#.*", "", text))
    lists = re.compile(r"a[mv]x\w*_flags\s")
    return [
        f"{name}({body})"
        for name, body in commands
        if re.search(r"(?<![\w-])-m\w", body) and not (name == "set" and lists.match(body))
    ]


def test_instruction_set_flags_reach_only_the_files_named_for_them():
    text = (ROOT / "kernels" / "native" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert misplaced_flags(text) == []
    users = [line.strip() for line in text.splitlines() if "_flags}" in line]
    assert users, "no file gets instruction set flags"
    assert all(line.startswith("set_source_files_properties(${op}/${isa}.cpp ") for line in users), users


@pytest.mark.parametrize(
    "line",
    [
        "target_compile_options(truffle_kernels PRIVATE -O3 -mavx2)",
        'set(CMAKE_CXX_FLAGS "-O3 -mfma")',
        "set_source_files_properties(team.cpp PROPERTIES COMPILE_OPTIONS -mavx512f)",
    ],
)
def test_the_reader_notices_flags_on_common_files(line):
    assert misplaced_flags(line)


def test_nothing_is_built_for_the_machine_it_is_built_on():
    for path in [ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / "kernels" / "native").rglob("*")]:
        if path.is_file():
            assert "march=native" not in path.read_text(encoding="utf-8"), path
