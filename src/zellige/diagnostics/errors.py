"""The error that a user meets: a code, what happened, the facts in numbers and one suggested edit.

Data first, text last: an error is raised with fields, and `render` (or the JSON of `as_dict`) shows it.
Ranges of codes: ZL05xx host and runtime, ZL06xx model files, ZL07xx requests and sampling, ZL08xx network and cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zellige.diagnostics.layout import layout
from zellige.diagnostics.span import Span


class ZelligeError(Exception):
    """A mistake or misfortune that the user can act on.

    Fields: `code` ("ZL0601"), `message` (one sentence), `facts` (name -> value, in numbers where there are any),
    `help` (one suggested edit), `span` (the user's own line, when there is one).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        facts: Mapping[str, Any] | None = None,
        help: str | None = None,
        span: Span | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = dict(facts or {})
        self.help = help
        self.span = span

    def render(self) -> str:
        """The error as one block of plain text: headline, place, facts, help."""
        facts = [(name, str(value)) for name, value in self.facts.items()]
        return layout(f"error[{self.code}]: {self.message}", self.span, "", (), facts, (("help", self.help or ""),))

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data."""
        place = None if self.span is None else {"file": self.span.file, "line": self.span.line}
        return {"code": self.code, "message": self.message, "facts": self.facts, "help": self.help, "span": place}

    def __str__(self) -> str:
        """All of it: in a traceback there is nothing else to read."""
        return self.render()


class InternalError(Exception):
    """A broken invariant of Zellige itself: never the user's fault; the text says what to report."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (this is a bug in Zellige: please report it with the lines above)")
