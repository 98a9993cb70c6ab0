"""Findings as SARIF 2.1.0 (OASIS standard), which code-scanning services and editors read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zellige.diagnostics.codes import CODES, explanation
from zellige.diagnostics.findings import Finding
from zellige.diagnostics.span import Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(findings: Iterable[Finding], version: str) -> dict[str, Any]:
    """A log with one run, JSON-ready. A finding that several variants of a kernel share is in it once."""
    once = {(f.code, f.span, f.message): f for f in findings}
    codes = sorted({f.code for f in once.values()})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "zellige", "version": version, "rules": [_rule(code) for code in codes]}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(f, codes.index(f.code)) for f in once.values()],
            }
        ],
    }


def _rule(code: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": code, "defaultConfiguration": {"level": "error"}}
    if code in CODES:
        text = explanation(code)
        rule["shortDescription"] = {"text": CODES[code]}
        rule["help"] = {"text": text, "markdown": text}
    return rule


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    parts = [finding.message, *(f"{name}: {value}" for name, value in finding.facts.items())]
    parts += [f"{name}: {text}" for name, text in (("why", finding.why), ("help", finding.help)) if text]
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": "\n".join(parts)},
        "locations": [_location(finding.span, finding.label)],
        "properties": {
            "facts": {name: str(value) for name, value in finding.facts.items()},
            "refuted": finding.refuted,
        },
    }
    if finding.others:
        result["relatedLocations"] = [{"id": i, **_location(o.span, o.text)} for i, o in enumerate(finding.others)]
    return result


def _location(span: Span, text: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(span.file)}}
    if span.line > 0:  # the whole file otherwise
        physical["region"] = {
            "startLine": span.line, "startColumn": span.column + 1, "endLine": max(span.end_line, span.line),
            "endColumn": span.end_column + 1,
        }  # fmt: skip
    return {"physicalLocation": physical, **({"message": {"text": text}} if text else {})}


def _uri(file: str) -> str:
    """Relative to the working directory where it is below it, as services expect that compare it with a repository."""
    from urllib.parse import quote

    path = Path(file)
    if not path.is_absolute():
        return quote(path.as_posix())
    try:
        return quote(path.relative_to(Path.cwd()).as_posix())
    except ValueError:
        return path.as_uri()
