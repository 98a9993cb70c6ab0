"""What a user is told: error types with codes, facts and help; spans; rendering.

The bottom layer: everyone may import it, it imports nothing of ours. Start reading in `errors.py`.
"""

from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.diagnostics.span import Span

__all__ = ["InternalError", "Span", "ZelligeError"]
