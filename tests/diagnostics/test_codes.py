"""Every code has an explanation, and the examples in it get that code, or none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zellige.cli.kernel_files import check_kernel, kernels_in, load
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.codes import CODES, explanation
from zellige.verify import verify

EXPLANATIONS = Path(__file__).parents[2] / "src" / "zellige" / "diagnostics" / "explanations"
SOURCE = Path(__file__).parents[2] / "src" / "zellige"


def examples(kind: str) -> list[tuple[str, str]]:
    found = []
    for code in sorted(CODES):
        found += [(code, body) for body in re.findall(rf"```python {kind}\n(.*?)```", explanation(code), re.DOTALL)]
    return found


def codes_of(source: str, folder: Path) -> set[str]:
    """The codes that a file with this source gets."""
    path = folder / "example.py"
    path.write_text(source)
    try:
        kernels = kernels_in(load(path))
    except ZelligeError as error:
        return {error.code}
    return {f.code for k in kernels for c in check_kernel(k, verify) for f in c.verdict.findings}


@pytest.mark.parametrize(("code", "source"), examples("refused"), ids=lambda v: v if v.startswith("ZL") else "")
def test_refused_example_gets_its_code(code: str, source: str, tmp_path: Path) -> None:
    assert codes_of(source, tmp_path) == {code}


@pytest.mark.parametrize(("code", "source"), examples("accepted"), ids=lambda v: v if v.startswith("ZL") else "")
def test_accepted_example_is_proved(code: str, source: str, tmp_path: Path) -> None:
    assert codes_of(source, tmp_path) == set()


def test_every_code_of_language_and_verifier_is_explained_and_every_explanation_has_its_code() -> None:
    raised = set()
    for folder in ("frontend", "lang", "verify"):
        for path in (SOURCE / folder).rglob("*.py"):
            raised |= set(re.findall(r'"(ZL\d{4})"', path.read_text()))
    assert raised <= set(CODES)
    assert {p.stem for p in EXPLANATIONS.glob("*.md")} == set(CODES)


def test_an_unknown_code_is_an_error_with_a_hint() -> None:
    with pytest.raises(ZelligeError) as caught:
        explanation("ZL9999")
    assert caught.value.help
