"""Every code has an explanation with an example; test_messages.py says what the examples get, here that the corrected ones pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.diagnostics.examples import ALL, CORRECT, Example, example_folder, examples, shown  # noqa: F401
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.codes import CODES, explanation

ROOT = Path(__file__).parents[2]
EXPLANATIONS = ROOT / "src" / "zellige" / "diagnostics" / "explanations"

WITHOUT_EXAMPLE = {
    "ZL0510": "depends on which packages are installed",
    "ZL0511": "depends on the machine's driver",
    "ZL0512": "needs a driver without that GPU",
    "ZL0513": "needs two kinds of GPU",
    "ZL0514": "needs a GPU with less shared memory than its target has",
    "ZL0515": "needs machine code that was compiled by hand, and a GPU",
    "ZL0516": "needs a GPU, and more than 2**31 programs",
    "ZL0517": "needs a driver that fails",
    "ZL0526": "needs Triton, and depends on what the target's limits are",
    "ZL0710": "needs a device that dies, or a defect",
    "ZL0801": "needs an index without the package",
    "ZL0802": "needs a network that fails",
    "ZL0803": "needs an index that serves other bytes",
    "ZL0804": "needs a full disk",
    "ZL0806": "depends on which packages are installed",
    "ZL0807": "needs the hub",
    "ZL0904": "depends on which packages are installed",
    "ZL0905": "needs Triton, and depends on what the target's limits are",
}
"""Codes that no short program gets on every machine, and why. Their pages say how they arise."""


def raised() -> dict[str, list[str]]:
    """Codes in the source, with the files that name them."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src" / "zellige").rglob("*.py")):
        if path.name != "codes.py":
            for code in re.findall(r'"(ZL\d{4})"', path.read_text()):
                found.setdefault(code, []).append(path.name)
    return found


def name(example: Example) -> str:
    return f"{example.code}-{example.kind}"


@pytest.mark.parametrize("example", [e for e in ALL if e.kind in CORRECT], ids=name)
def test_the_corrected_example_gets_none(example: Example, example_folder: Path) -> None:  # noqa: F811
    codes, text = shown(example, example_folder)
    assert codes == set(), text


def test_every_code_that_is_raised_is_explained_and_every_explanation_has_its_code() -> None:
    assert set(raised()) == set(CODES)
    assert {p.stem for p in EXPLANATIONS.glob("*.md")} == set(CODES)


def test_every_page_has_an_example_or_there_is_a_reason() -> None:
    without = {code for code in CODES if all(e.kind in CORRECT for e in examples(code))}
    assert without == set(WITHOUT_EXAMPLE)


def test_codes_are_in_order() -> None:
    assert list(CODES) == sorted(CODES)


def test_an_unknown_code_is_an_error_with_a_hint() -> None:
    with pytest.raises(ZelligeError) as caught:
        explanation("ZL9999")
    assert caught.value.help
