"""Texts on record, beside the tests that compare with them."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def assert_golden(path: Path, text: str) -> None:
    """``text`` is what the file holds. With UPDATE_GOLDEN=1 in the environment (`make golden`), writes it instead."""
    shown = "\n".join(line.rstrip() for line in text.replace(f"{ROOT}/", "").rstrip().splitlines()) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown)
    assert path.exists(), f"there is no text on record yet: `make golden` writes {path.name}"
    assert shown == path.read_text(), (
        f"the text changed; if it is better, `make golden` puts it on record ({path.name})"
    )
