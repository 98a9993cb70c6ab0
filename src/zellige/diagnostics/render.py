"""Findings as text: the headline, the source with a caret, the counterexample in numbers, why, and one suggested edit.

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
"""

from __future__ import annotations

import linecache

from zellige.diagnostics.findings import Finding
from zellige.diagnostics.span import Span

WIDTH = 100
"""Columns that prose is wrapped to."""


def render(finding: Finding) -> str:
    """One finding as a block of plain text."""
    gutter = max((len(str(s.line)) for s in (finding.span, *(o.span for o in finding.others)) if s.line), default=1)
    bar = " " * (gutter + 2) + "|"
    lines = [f"error[{finding.code}]: {finding.message}"]
    if finding.span.line:
        lines.append(f"{' ' * (gutter + 1)}--> {finding.span}")
        lines += [bar, *_excerpt(finding.span, finding.label, gutter, "^")]
        for other in finding.others:
            if other.span.line:
                if other.span.file != finding.span.file:
                    lines.append(f"{' ' * (gutter + 1)}::: {other.span}")
                lines += _excerpt(other.span, other.text, gutter, "-")
        lines.append(bar)
    lead = " " * (gutter + 2) + "= "
    for name, value in finding.facts.items():
        lines.append(f"{lead}{name}: {value}")
    for name, text in (("why", finding.why), ("help", finding.help)):
        if text:
            lines += _wrapped(f"{name}: {text}", lead)
    lines.append(f"{lead}explain: zellige explain {finding.code}")
    return "\n".join(lines)


def _excerpt(span: Span, label: str, gutter: int, mark: str) -> list[str]:
    """The first line of a span, underlined."""
    source = linecache.getline(span.file, span.line).rstrip("\n")
    if not source.strip():
        return [f" {span.line:>{gutter}} | {label}"]
    end = span.end_column if span.end_line == span.line else len(source)
    width = max(1, min(end, len(source)) - span.column)
    # a tab stays a tab, so that the caret stands under its character
    indent = "".join(c if c == "\t" else " " for c in source[: span.column])
    under = f" {' ' * gutter} | {indent}{mark * width} {label}".rstrip()
    return [f" {span.line:>{gutter}} | {source}", under]


def _wrapped(text: str, lead: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=" " * (len(lead) + 2))
