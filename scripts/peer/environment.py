"""Where the peer runs: the throwaway environment of scripts/interop/run, with its pins and its stand-ins for CUDA."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def environment(path, folder):
    """The Python of an environment with the peer in it."""
    loader = importlib.machinery.SourceFileLoader("interop", str(ROOT / "scripts" / "interop" / "run"))
    interop = importlib.util.module_from_spec(importlib.util.spec_from_loader("interop", loader))
    loader.exec_module(interop)
    if not (path / "complete").is_file():
        interop.make_environment(path, folder)
    return path / "bin" / "python"


def refuse(sentence):
    print(f"peer: {sentence}", file=sys.stderr)
    sys.exit(2)
