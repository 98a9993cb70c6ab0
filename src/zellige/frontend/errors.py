"""The frontend's refusals: ZL01xx, each at the user's own line."""

from __future__ import annotations

from typing import NoReturn

from zellige.diagnostics.errors import ZelligeError
from zellige.diagnostics.span import Span


class LanguageError(ZelligeError):
    """A kernel that is not a program of the language."""


def refuse(code: str, message: str, span: Span, help: str | None = None, **facts: object) -> NoReturn:
    """Raises a LanguageError at ``span``."""
    raise LanguageError(code, message, span=span, help=help, facts=facts)
