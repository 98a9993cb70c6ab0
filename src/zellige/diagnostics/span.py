"""Where something stands in the user's source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a source file. Lines count from 1 and columns from 0, as in Python's ``ast``; the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column + 1}"


NOWHERE = Span("<built>", 0, 0, 0, 0)
"""The span of operations that no source line stands for, as in IR that a test builds by hand."""
