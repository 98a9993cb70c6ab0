"""Example files as modules (their names start with digits), and golden texts beside the tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"


def load(path: Path) -> ModuleType:
    """The module of an example file, imported as when it is run: its folder first on the path."""
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def assert_golden(name: str, text: str) -> None:
    """``text`` is what golden/``name`` holds. With UPDATE_GOLDEN=1 in the environment, writes it instead."""
    shown = text.replace(f"{ROOT}/", "").rstrip() + "\n"
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text(), f"the message changed; if it is better, rerun with UPDATE_GOLDEN=1 ({path.name})"
