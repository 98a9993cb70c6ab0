"""What the verifier finds wrong with a kernel, as data: code, places, numbers, why, and one suggested edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.diagnostics.span import Span


@dataclass(frozen=True)
class Label:
    """A second place that a finding is about, with what it has to do with it."""

    span: Span
    text: str


@dataclass(frozen=True)
class Finding:
    """One reason to refuse a kernel.

    ``facts`` are the counterexample in numbers (or what is known, if there is none), in the order to be shown.
    ``refuted``: there is a counterexample; else the claim could only not be proved.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    """What is wrong at ``span``, in a few words, for under the caret."""
    others: tuple[Label, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    help: str = ""
    refuted: bool = True

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data; ``from_dict`` is its inverse."""
        return {
            "code": self.code,
            "message": self.message,
            "span": span_to_list(self.span),
            "label": self.label,
            "others": [{"span": span_to_list(o.span), "text": o.text} for o in self.others],
            "facts": dict(self.facts),
            "why": self.why,
            "help": self.help,
            "refuted": self.refuted,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that ``as_dict`` describes. KeyError, TypeError or ValueError if it does not describe one."""
        others = tuple(Label(span_from_list(o["span"]), str(o["text"])) for o in data["others"])
        return cls(
            str(data["code"]), str(data["message"]), span_from_list(data["span"]), str(data["label"]), others,
            dict(data["facts"]), str(data["why"]), str(data["help"]), bool(data["refuted"]),
        )  # fmt: skip

    def error(self) -> ZelligeError:
        """As an exception."""
        return ZelligeError(self.code, self.message, facts=self.facts, help=self.help or None, span=self.span)


def span_to_list(span: Span) -> list[Any]:
    """A span as JSON."""
    return [span.file, span.line, span.column, span.end_line, span.end_column]


def span_from_list(data: Any) -> Span:
    """The span that a list describes. ValueError or TypeError if it does not describe one."""
    file, line, column, end_line, end_column = data
    return Span(str(file), int(line), int(column), int(end_line), int(end_column))


class VerificationError(ZelligeError):
    """A kernel that is refused, with everything that was found wrong with it."""

    def __init__(self, kernel: str, findings: tuple[Finding, ...]) -> None:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(
            first.code, f"kernel '{kernel}' is refused: {first.message}{more}", facts=first.facts, help=first.help or None,
            span=first.span,
        )  # fmt: skip
        self.kernel = kernel
        self.findings = findings

    def render(self) -> str:
        """All findings, with the lines of source that they are about."""
        from zellige.diagnostics.render import render

        return "\n\n".join(render(finding) for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "findings": [f.as_dict() for f in self.findings]}
