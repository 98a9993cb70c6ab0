"""How anything that went wrong looks as text: the headline, the source with a caret, facts, why, and one suggested edit.

error[ZL0201]: index out of bounds on axis 0 of 'x': 5 is not below 5
  --> shift.py:9:12
   |
 9 |     y[i] = x[i + 1]
   |            ^^^^^^^^ can reach past the end (M)
   |
   = sizes: M = 5
   …
   = why: …
   = help: …

Without a place in the source, the notes stand below the headline.
"""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Sequence

from zellige.diagnostics.span import Span

WIDTH = 100
"""Columns that prose is wrapped to."""


def layout(
    headline: str, span: Span | None, label: str, others: Sequence[tuple[Span, str]], facts: Sequence[tuple[str, str]],
    prose: Sequence[tuple[str, str]],
) -> str:  # fmt: skip
    """One block of plain text. ``others`` are further places with what they have to do with it; ``prose`` is wrapped."""
    lines = [headline]
    placed = [s for s in (span, *(o for o, _ in others)) if s is not None and s.line]
    gutter = max((len(str(s.line)) for s in placed), default=1)
    lead = "  "
    if span is not None and span.line:
        lines += [f"{' ' * (gutter + 1)}--> {span}", *_source(span, label, others, gutter)]
        lead = " " * (gutter + 2) + "= "
    lines += [f"{lead}{name}: {value}" for name, value in facts]
    for name, text in prose:
        if text:
            after = " " * (len(lead) + 2)
            lines += textwrap.wrap(
                f"{name}: {text}", WIDTH, initial_indent=lead, subsequent_indent=after, break_long_words=False
            )
    return "\n".join(lines)


def _source(span: Span, label: str, others: Sequence[tuple[Span, str]], gutter: int) -> list[str]:
    """The lines that a finding is about, between bars; nothing if Python does not have them."""
    lines = _excerpt(span, label, gutter, "^")
    for other, text in others:
        if other.line:
            if other.file != span.file:
                lines.append(f"{' ' * (gutter + 1)}::: {other}")
            lines += _excerpt(other, text, gutter, "-")
    bar = " " * (gutter + 2) + "|"
    return [bar, *lines, bar] if lines else []


def _excerpt(span: Span, label: str, gutter: int, mark: str) -> list[str]:
    """The first line of a span, underlined."""
    source = linecache.getline(span.file, span.line).rstrip("\n")
    if not source.strip():
        return [f" {span.line:>{gutter}} | {label}"] if label else []
    end = span.end_column if span.end_line == span.line else len(source)
    width = max(1, min(end, len(source)) - span.column)
    # a tab stays a tab, so that the caret stands under its character
    indent = "".join(c if c == "\t" else " " for c in source[: span.column])
    under = f" {' ' * gutter} | {indent}{mark * width} {label}".rstrip()
    return [f" {span.line:>{gutter}} | {source}", under]
