"""What a model said, for a terminal."""

from __future__ import annotations

import sys


def shown(text: str) -> str:
    """Text without control characters: a model must not drive the terminal."""
    if text.isprintable() or not sys.stdout.isatty():
        return text
    return "".join(c for c in text if c.isprintable() or c in "\n\t" or ord(c) >= 0xA0)
