"""Every exhibit: the wrong program is refused with the text on record, the corrected one runs and agrees with NumPy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zellige as zl
from tests.examples.loading import ROOT, load
from tests.golden import assert_golden

GOLDEN = Path(__file__).parent / "golden" / "museum"
EXHIBITS = sorted((ROOT / "examples" / "museum").glob("[0-9]*.py"))


@pytest.fixture(params=EXHIBITS, ids=lambda path: path.stem)
def exhibit(request):
    return load(request.param)


def test_all_sixteen_are_there():
    assert [path.name[:2] for path in EXHIBITS] == [f"{n:02}" for n in range(1, 17)]


def test_the_wrong_program_is_refused_with_the_text_on_record(exhibit):
    texts = [function() for name, function in vars(exhibit).items() if name.startswith("wrong")]
    assert texts
    assert_golden(GOLDEN / f"{exhibit.__name__.removeprefix('example_museum_')}.txt", "\n\n".join(texts))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_corrected_program_agrees_with_numpy(exhibit, backend):
    if backend == "reference" and {"zl.record", "zl.stream"} & set(
        re.findall(r"zl\.\w+", Path(exhibit.__file__).read_text())
    ):
        pytest.skip("the interpreter neither records nor has streams")
    with zl.using(backend):
        exhibit.right()


def test_the_page_says_what_happened_and_what_we_say(exhibit):
    assert exhibit.__doc__.startswith(f"Exhibit {int(exhibit.__name__.split('_')[2])}. ")
    assert "What happened (" in exhibit.__doc__ and "What Zellige says:" in exhibit.__doc__
