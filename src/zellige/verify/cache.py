"""Verdicts on disk, by content: the same kernel text and the same verifier give the same verdict, so it is kept.

The key covers the kernel's canonical text with its spans, the verifier's and the IR's own source files and the solver's
version: any change to what decides makes old entries unreachable. A damaged entry is made again, never trusted.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from zellige import ir
from zellige.ir.ops import Function
from zellige.ir.printer import text
from zellige.verify.verdict import Verdict
from zellige.verify.verifier import verify


class VerdictCache:
    """Verdicts below a folder. Safe for several processes at once: files are written beside and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def verify(self, function: Function) -> Verdict:
        """The verdict of a kernel, from disk if it is there."""
        path = self.folder / f"{key(function)}.json"
        found = _read(path, function.name)
        if found is None:
            found = verify(function)
            self._write(path, found)
        return found

    def _write(self, path: Path, verdict: Verdict) -> None:
        """Keeps a verdict. A folder that cannot be written costs time, not correctness."""
        body = json.dumps(verdict.as_dict(), separators=(",", ":"))
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


def _read(path: Path, kernel: str) -> Verdict | None:
    """The verdict in a file; None if there is none, or if the file is not what was written."""
    try:
        checksum, _, body = path.read_text().partition("\n")
        if checksum != _digest(body.encode()):
            return None
        verdict = Verdict.from_dict(json.loads(body))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if verdict.kernel == kernel else None


def key(function: Function) -> str:
    """What a verdict depends on, as a name."""
    return _digest(_verifier() + text(function, spans=True).encode())


@cache
def _verifier() -> bytes:
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, Path(ir.__file__).parent):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    try:
        digest.update(version("z3-solver").encode())
    except PackageNotFoundError:
        digest.update(b"unknown solver")
    return digest.digest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
