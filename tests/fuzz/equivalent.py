"""Switches that change no verdict, and why that is right."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
"""By key of the switch."""
