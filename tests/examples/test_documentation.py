"""The pages of the tutorial run, and the language page is complete: its blocks are what it says they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zellige as zl
from tests.examples.loading import ROOT, load
from tests.golden import assert_golden
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.codes import CODES, titles
from zellige.diagnostics.findings import VerificationError
from zellige.ir.dtypes import DType
from zellige.lang import operations, params

STEPS = sorted((ROOT / "docs" / "tutorial").glob("[1-9]-*.md"))
LANGUAGE = ROOT / "docs" / "language.md"
BLOCK = re.compile(r"^```python(?: refused (ZL\d{4}))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [*STEPS, LANGUAGE]


CODES_PAGE = """# Codes

`zellige explain CODE` tells more of each: why, an example that gets it, and the corrected one. ZL01xx the language, ZL02xx bounds,
ZL03xx races and coverage, ZL04xx overflow, division and contracts, ZL05xx calls, tensors and streams, ZL06xx model files, ZL07xx
requests and sampling, ZL08xx network and cache, ZL09xx compiling for GPUs. Written by a test (`make golden`).
"""


def program(page: Path) -> str:
    """The blocks of a page that run, as one file."""
    return "\n\n".join(body for code, body in BLOCK.findall(page.read_text()) if not code)


def refused() -> list[object]:
    return [
        pytest.param(page, number, code, body, id=f"{page.stem}-{code}-{number}")
        for page in PAGES
        for number, (code, body) in enumerate(BLOCK.findall(page.read_text()))
        if code
    ]


def kernels(module: object) -> dict[str, zl.Kernel]:
    return {name: value for name, value in vars(module).items() if isinstance(value, zl.Kernel)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_and_its_kernels_are_proved(page: Path, tmp_path: Path):
    path = tmp_path / f"{page.stem.replace('-', '_')}.py"
    path.write_text(program(page))
    found = kernels(load(path))
    assert found
    for kernel in found.values():
        for statics, dtypes in kernel.variants():
            kernel.instance(statics, dtypes)


@pytest.mark.parametrize(("page", "number", "code", "body"), refused())
def test_a_block_marked_refused_gets_its_code(page: Path, number: int, code: str, body: str, tmp_path: Path):
    preamble = BLOCK.findall(page.read_text())[0][1]
    path = tmp_path / "refused.py"
    path.write_text(f"{preamble}\n\n{body}")
    (name,) = re.findall(r"^def (\w+)\(", body, re.MULTILINE)
    kernel = kernels(load(path))[name]
    statics, dtypes = next(kernel.variants())
    with pytest.raises(zl.ZelligeError) as caught:
        kernel.instance(statics, dtypes)
    error = caught.value
    codes = {f.code for f in error.findings} if isinstance(error, VerificationError) else {error.code}
    assert code in codes


def test_there_are_eight_steps():
    assert [page.name[0] for page in STEPS] == list("12345678")


def test_the_language_page_names_every_operation_and_type_and_no_code_that_is_gone():
    text = LANGUAGE.read_text()
    declared = {name for name, value in vars(operations).items() if hasattr(value, "__zl_operation__")}
    values = {name: value for name, value in vars(params).items() if name in zl.__all__ and value is not ZelligeError}
    types = {name for name, value in values.items() if not isinstance(value, DType)}
    assert {"In", "Offsets", "dims"} <= types
    missing = {name for name in declared | types if not re.search(rf"\bzl\.{name}\b", text)}
    assert not missing
    assert not set(re.findall(r"ZL\d{4}", text)) - set(CODES)


def test_the_page_of_codes_lists_them_all():
    rows = "\n".join(f"| {code} | {title} |" for code, title in titles().items())
    assert_golden(ROOT / "docs" / "codes.md", f"{CODES_PAGE}\n| code | what it says |\n|---|---|\n{rows}\n")
