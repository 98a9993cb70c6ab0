"""Imports go one way (docs/architecture.md), and the house keeps its shape."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "zellige"

BELOW: dict[str, set[str]] = {
    "diagnostics": set(),
    "ir": {"diagnostics"},
    "lang": {"ir"},
    "frontend": {"lang", "ir"},
    "verify": {"ir"},
    "passes": {"ir"},
    "backends": {"ir", "passes"},
    "runtime": {"lang", "frontend", "verify", "passes", "backends"},
    "kernels": {"lang", "runtime"},
    "llm": {"kernels", "runtime"},
    "serve": {"llm"},
    "cli": {"serve", "llm", "kernels", "runtime"},
}
"""For each folder, those directly below it; what they may import, it may, too."""

FORBIDDEN_NAMES = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
LONGEST_FILE = 680
"""Past 600 lines one asks what two ideas live in a file; past this, one answers."""


def reachable(folder: str) -> set[str]:
    """Folders that code in ``folder`` may import."""
    found = {folder, "diagnostics"}
    for below in BELOW[folder]:
        found |= reachable(below)
    return found


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of ours that a file imports, anywhere in it, with the line."""
    package = path.relative_to(SOURCE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            if name == "zellige" or name.startswith("zellige."):
                yield name, node.lineno


def offences(folder: str, files: list[Path]) -> list[str]:
    allowed = reachable(folder)
    found = []
    for path in files:
        for module, line in imports(path):
            parts = module.split(".")
            target = parts[1] if len(parts) > 1 else ""
            # ``import zellige as zl`` is what kernel authors write: the library and what stands on it.
            facade = target not in BELOW and folder in ("kernels", "llm", "serve", "cli")
            if target not in allowed and not facade:
                found.append(f"{path.relative_to(ROOT)}:{line}: {folder} may not import {module}")
            if folder == "backends" and target == "backends":
                own = path.relative_to(SOURCE / "backends").parts[0]
                shared = not (SOURCE / "backends" / parts[2]).is_dir() if len(parts) > 2 else True
                if not shared and parts[2] != own:
                    found.append(f"{path.relative_to(ROOT)}:{line}: backend {own} may not import {module}")
    return found


def python_files(*, under: Path = SOURCE) -> list[Path]:
    return sorted(p for p in under.rglob("*.py") if "__pycache__" not in p.parts)


@pytest.mark.parametrize("folder", BELOW)
def test_imports_go_one_way(folder: str) -> None:
    assert offences(folder, python_files(under=SOURCE / folder)) == []


def test_every_folder_has_its_place() -> None:
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= set(BELOW), f"say in BELOW what {sorted(folders - set(BELOW))} may import"


def test_an_upward_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = SOURCE / "ir" / "_never_written.py"
    monkeypatch.setattr(Path, "read_text", lambda self: "def f():\n    from zellige.verify import verify\n")
    assert offences("ir", [wrong]) == ["src/zellige/ir/_never_written.py:2: ir may not import zellige.verify.verify"]
    monkeypatch.setattr(Path, "read_text", lambda self: "from ..diagnostics import span\nfrom .. import runtime\n")
    assert offences("ir", [wrong]) == ["src/zellige/ir/_never_written.py:2: ir may not import zellige.runtime"]


def test_no_file_is_called_after_nothing() -> None:
    assert [str(p) for p in python_files() + python_files(under=ROOT / "tests") if p.name in FORBIDDEN_NAMES] == []


def test_no_file_holds_two_ideas() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in python_files() if (n := len(p.read_text().splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_every_package_says_what_it_is() -> None:
    packages = [p for p in python_files() if p.name == "__init__.py" and len(list(p.parent.glob("*.py"))) > 1]
    assert [str(p.relative_to(ROOT)) for p in packages if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_no_machine_specific_path_is_committed() -> None:
    needle = "/".join(["", "work", ""])
    files = python_files() + python_files(under=ROOT / "tests") + sorted(ROOT.glob("docs/**/*.md"))
    assert [str(p.relative_to(ROOT)) for p in files if needle in p.read_text()] == []
