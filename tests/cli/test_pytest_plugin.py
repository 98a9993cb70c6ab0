"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GOOD = """
import zellige as zl
from zellige import f32

M = zl.dims("M")


@zl.kernel
def double(x: zl.In[f32, M], *, y: zl.Out[f32, M], BM: zl.Static = 32):
    i = zl.grid(M.tiles(BM))
    y[i] = x[i] * 2.0
"""
BAD = GOOD.replace("x[i] * 2.0", "x[i + 1] * 2.0").replace("double", "shift")
PLUGIN = ("-p", "no:zellige", "-p", "zellige.pytest_plugin", "-p", "no:cacheprovider")
"""Loaded by its module, whether or not an installation registers it as well."""
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def own_cache(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(pytester.path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*PLUGIN, *arguments)


def test_kernels_of_a_configured_folder_are_tests(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntestpaths = tests\nzellige_check = kernels")
    pytester.mkdir("kernels").joinpath("good.py").write_text(GOOD)
    pytester.mkdir("tests").joinpath("test_plain.py").write_text("def test_plain(): pass\n")
    result = run(pytester, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*good.py::double PASSED*"])


def test_a_refused_kernel_fails_with_the_message_of_the_verifier(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nzellige_check = kernels")
    pytester.mkdir("kernels").joinpath("bad.py").write_text(GOOD.replace("double", "fine") + BAD.split('M")\n', 1)[1])
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*error?ZL0201?: index out of bounds on axis 0 of 'x'*", "*x?i + 1?*"])
    assert "Traceback" not in result.stdout.str()


def test_a_test_file_can_hold_kernels_and_tests(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nzellige_check = test_both.py")
    pytester.makepyfile(test_both=GOOD + "\n\ndef test_plain():\n    pass\n")
    run(pytester).assert_outcomes(passed=2)
    run(pytester, "-m", "zellige").assert_outcomes(passed=1, deselected=1)


def test_given_paths_leave_out_other_files(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nzellige_check = kernels")
    pytester.mkdir("kernels").joinpath("good.py").write_text(GOOD)
    pytester.makepyfile(test_plain="def test_plain(): pass")
    run(pytester, "test_plain.py").assert_outcomes(passed=1)
    run(pytester, "kernels").assert_outcomes(passed=1)


def test_without_the_option_nothing_is_collected_or_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_plain="import sys\ndef test_plain(): assert 'zellige.runtime' not in sys.modules")
    pytester.mkdir("kernels").joinpath("good.py").write_text(GOOD)
    run(pytester).assert_outcomes(passed=1)


def test_a_missing_folder_and_a_broken_file_are_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nzellige_check = nowhere")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "there is no file or folder" in result.stderr.str()
    pytester.makeini("[pytest]\nzellige_check = test_broken.py")
    pytester.makepyfile(test_broken="import nowhere_at_all")
    assert "ZL0130" in run(pytester).stdout.str()
