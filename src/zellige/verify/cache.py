"""Verdicts on disk, by content: the same kernel text and the same verifier give the same verdict, so it is kept.

The key covers the kernel's canonical text with its spans and the verifier's and the IR's own source files: any change
to what decides makes old entries unreachable. Neither keys nor entries name the folder that the source lies in, so that a
cache serves on another machine. An entry made by another version of the solver is made again. A damaged entry is made
again, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zellige import ir
from zellige.ir.ops import Function
from zellige.ir.printer import portable_text
from zellige.verify.verdict import Verdict


class VerdictCache:
    """Verdicts below a folder. Safe for several processes at once: files are written beside and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def verify(self, function: Function) -> Verdict:
        """The verdict of a kernel, from disk if it is there."""
        name, files = _key(function)
        path = self.folder / f"{name}.json"
        found = _read(path, function.name, files)
        if found is None:
            from zellige.verify.verifier import verify  # imports the solver

            found = verify(function)
            self._write(path, found, files)
        return found

    def _write(self, path: Path, verdict: Verdict, files: tuple[str, ...]) -> None:
        """Keeps a verdict. A folder that cannot be written costs time, not correctness."""
        data = _renamed(verdict.as_dict(), {file: _FILE.format(n) for n, file in enumerate(files)})
        body = json.dumps({"solver": _solver(), **data}, separators=(",", ":"))
        temporary: str | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".new")
            with os.fdopen(handle, "w") as file:
                file.write(_digest(body.encode()) + "\n" + body)
            os.replace(temporary, path)
        except OSError:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def _read(path: Path, kernel: str, files: tuple[str, ...]) -> Verdict | None:
    """The verdict in a file, its spans in ``files``; None if there is none, or if the file is not what was written."""
    try:
        checksum, _, body = path.read_text().partition("\n")
        if checksum != _digest(body.encode()):
            return None
        data = json.loads(body)
        if _solver() not in (None, data["solver"]):
            return None
        verdict = Verdict.from_dict(_renamed(data, {_FILE.format(n): file for n, file in enumerate(files)}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if verdict.kernel == kernel else None


def key(function: Function) -> str:
    """What a verdict depends on, as a name."""
    return _key(function)[0]


def _key(function: Function) -> tuple[str, tuple[str, ...]]:
    """The key, and the files that its text tells by number."""
    text, files = portable_text(function)
    return _digest(_verifier() + text.encode()), files


_FILE = "<source {}>"
"""How an entry names a file of the kernel's source; the angle brackets keep it apart from any path that is read."""


def _renamed(data: Any, names: Mapping[str, str]) -> Any:
    """JSON data with the strings that ``names`` has replaced."""
    match data:
        case str():
            return names.get(data, data)
        case list() | tuple():
            return [_renamed(entry, names) for entry in data]
        case dict():
            return {key: _renamed(value, names) for key, value in data.items()}
    return data


@cache
def _verifier() -> bytes:
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(ir.__file__).parent):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


@cache
def _solver() -> str | None:
    """The solver's version; None where it is not installed (there, verdicts that another machine made still count)."""
    try:
        return version("z3-solver")
    except PackageNotFoundError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
