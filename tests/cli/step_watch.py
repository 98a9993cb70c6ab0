"""Lets a test act between the steps of an engine."""

from __future__ import annotations

from collections.abc import Callable


class Steps:
    """What the oracle runs; `before` is called with the number of each step."""

    def __init__(self) -> None:
        self.count = 0
        self.before: Callable[[int], None] = lambda step: None
