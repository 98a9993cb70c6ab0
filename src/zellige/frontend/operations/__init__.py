"""What each declaration of ``lang.operations`` lowers to: one function an operation, found by name.

Start with ``registry.py``; then one file per family, as in ``lang/operations.py``.
"""

from __future__ import annotations

from zellige.frontend.operations import across, composed, elementwise, grids, making, shape
from zellige.frontend.operations.registry import call

__all__ = ["across", "call", "composed", "elementwise", "grids", "making", "shape"]
