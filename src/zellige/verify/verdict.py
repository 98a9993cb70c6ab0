"""The outcome of a verification, and its record: what was asked, how it was decided, and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zellige.diagnostics.findings import Finding, span_from_list, span_to_list
from zellige.diagnostics.span import Span


@dataclass(frozen=True)
class Record:
    """One obligation: what was to be shown where, and what showed it (the name of a rule, or ``smt``)."""

    kind: str
    span: Span
    what: str
    how: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "span": span_to_list(self.span), "what": self.what, "how": self.how,
            "seconds": round(self.seconds, 6),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        return cls(
            str(data["kind"]), span_from_list(data["span"]), str(data["what"]), str(data["how"]), float(data["seconds"])
        )


@dataclass(frozen=True)
class Verdict:
    """Whether everything was proved; if not, why not."""

    kernel: str
    findings: tuple[Finding, ...]
    records: tuple[Record, ...]
    seconds: float = 0.0
    unsafe: tuple[str, ...] = field(default=())

    @property
    def proved(self) -> bool:
        return not self.findings

    def how(self) -> dict[str, int]:
        """How many obligations each rule, and the solver, discharged."""
        counts: dict[str, int] = {}
        for record in self.records:
            counts[record.how] = counts.get(record.how, 0) + 1
        return counts

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data; ``from_dict`` is its inverse."""
        return {
            "kernel": self.kernel, "proved": self.proved, "seconds": round(self.seconds, 6), "unsafe": list(self.unsafe),
            "findings": [f.as_dict() for f in self.findings], "records": [r.as_dict() for r in self.records],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The verdict that ``as_dict`` describes. KeyError, TypeError or ValueError if it does not describe one."""
        verdict = cls(
            str(data["kernel"]),
            tuple(map(Finding.from_dict, data["findings"])),
            tuple(map(Record.from_dict, data["records"])),
            float(data["seconds"]),
            tuple(map(str, data["unsafe"])),
        )
        if data["proved"] is not verdict.proved:
            raise ValueError("a verdict that contradicts itself")
        return verdict
