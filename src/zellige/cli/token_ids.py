"""Reads lists of token ids that a user wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from zellige.diagnostics import ZelligeError


def parse_ids(text: str, source: str) -> list[int]:
    """Ids from "1,2,3". Error ZL0707 names the entry that is not an id."""
    result = []
    for index, entry in enumerate(text.strip().strip("[]").split(",")):
        try:
            result.append(int(entry))
        except ValueError:
            raise _unreadable(source, f"entry {index} is {entry.strip()!r}, not a token id") from None
    return result


def read_ids_file(path: str) -> list[int]:
    """Ids from a file that holds a JSON list; "-" is standard input. Errors: ZL0707."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"not JSON ({error})") from None
    if not isinstance(value, list):
        raise _unreadable(path, f"a JSON list is expected, this is {type(value).__name__}")
    for index, entry in enumerate(value):
        if isinstance(entry, bool) or not isinstance(entry, int):
            raise _unreadable(path, f"entry {index} is {entry!r}, not a token id")
    return value


def _unreadable(source: str, why: str) -> ZelligeError:
    return ZelligeError(
        "ZL0707",
        f"cannot read token ids from {source}: {why}",
        help="give ids such as 504,3575,282, or a file with a JSON list of them",
    )
