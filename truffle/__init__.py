"""Truffle: LSH-sampled attention, a reference decoder on it, and an autotuner for both."""

import pkgutil
from pathlib import Path

__version__ = "0.1.0"
__path__ = pkgutil.extend_path(__path__, __name__)

# In a checkout the sub-packages are the folders beside this one, so that a bare clone works uninstalled.
_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "kernels" / "registry.py").is_file():
    __path__.insert(0, str(_root))
del pkgutil, Path, _root
