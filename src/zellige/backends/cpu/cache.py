"""Entries of this backend's cache folder: bytes with a digest, written beside and renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from zellige.diagnostics.cache_root import cache_root

FORMAT = 1  # of the entries; bump when their layout changes
_MAGIC = b"zellige object %d\n" % FORMAT


def cache_folder() -> Path:
    """Where compiled objects are kept. Error: ZL0805."""
    return cache_root() / "cpu"


def read_entry(path: Path) -> bytes | None:
    """What cache entry `path` holds, or None when there is none or it is damaged."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    head, digest, content = entry[: len(_MAGIC)], entry[len(_MAGIC) : len(_MAGIC) + 32], entry[len(_MAGIC) + 32 :]
    if head != _MAGIC or hashlib.sha256(content).digest() != digest:
        return None
    return content


def write_entry(path: Path, content: bytes) -> None:
    """Stores `content` beside `path` and renames it: a reader sees the old entry, the new one, or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError:
        return  # read-only or full: made again next time
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
