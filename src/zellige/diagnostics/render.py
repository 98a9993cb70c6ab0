"""Findings as text, in the layout of ``layout.py``."""

from __future__ import annotations

from zellige.diagnostics.findings import Finding
from zellige.diagnostics.layout import layout


def render(finding: Finding) -> str:
    """One finding as a block of plain text."""
    facts = [(name, str(value)) for name, value in finding.facts.items()]
    prose = (("why", finding.why), ("help", finding.help), ("explain", f"zellige explain {finding.code}"))
    others = [(other.span, other.text) for other in finding.others]
    return layout(f"error[{finding.code}]: {finding.message}", finding.span, finding.label, others, facts, prose)
