"""The text of every code, as the reader of its explanation sees it, is on record: golden/CODE.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnostics.examples import ALL, CORRECT, example_folder, shown  # noqa: F401
from tests.golden import assert_golden
from zellige.diagnostics.codes import CODES

GOLDEN = Path(__file__).parent / "golden"
WRONG = sorted({e.code for e in ALL if e.kind not in CORRECT})


@pytest.mark.parametrize("code", WRONG)
def test_the_text_is_the_one_on_record(code: str, example_folder: Path) -> None:  # noqa: F811
    texts = []
    for example in ALL:
        if example.code == code and example.kind not in CORRECT:
            codes, text = shown(example, example_folder)
            assert codes == {code}, text
            texts.append(text.replace(f"{example_folder}/", "").replace(str(example_folder), "."))
    assert_golden(GOLDEN / f"{code}.txt", "\n\n".join(texts))


def test_there_is_no_text_of_a_code_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} <= set(CODES)
