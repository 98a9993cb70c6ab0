"""`zellige check`, `explain` and `audit` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zellige.cli import cli

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


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path / "cache"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_proved_kernels_give_exit_code_0(tmp_path: Path) -> None:
    result = run("check", write(tmp_path / "a", good=GOOD))
    assert result.exit_code == 0, result.output
    assert "1 kernel: all proved" in result.output


def test_a_refused_kernel_is_shown_with_line_numbers_and_edit(tmp_path: Path) -> None:
    folder = write(tmp_path / "b", good=GOOD, bad=BAD)
    result = run("check", folder)
    assert result.exit_code == 1
    assert "2 kernels: 1 proved, 1 refused" in result.output
    shown = result.output[result.output.index("error[") : result.output.index("    = why")]
    assert shown == (
        "error[ZL0201]: index out of bounds on axis 0 of 'x': 1 is not below 1\n"
        f"   --> {folder / 'bad.py'}:11:12\n"
        "    |\n"
        " 11 |     y[i] = x[i + 1] * 2.0\n"
        "    |            ^^^^^^^^ can reach past the end (M)\n"
        "    |\n"
        "    = sizes: M = 1\n"
        "    = program: (0)\n"
        "    = lane: (0)\n"
        "    = index: 1\n"
        "    = extent: 1\n"
    )


def test_json_has_every_kernel_with_findings(tmp_path: Path) -> None:
    result = run("check", write(tmp_path / "c", good=GOOD, bad=BAD), "--format", "json")
    kernels = {k["name"]: k for k in json.loads(result.output)["kernels"]}
    assert kernels["double"]["proved"] and kernels["double"]["obligations"] > 0
    assert [f["code"] for f in kernels["shift"]["findings"]] == ["ZL0201"]
    assert kernels["shift"]["findings"][0]["facts"]["sizes"] == "M = 1"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("def broken(:", "SyntaxError"),
        ("import nowhere_at_all", "nowhere_at_all"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_at_its_line(tmp_path: Path, text: str, hint: str) -> None:
    result = run("check", write(tmp_path / "d", broken=text))
    assert result.exit_code == 1
    assert "ZL0130" in result.output and hint in result.output and "broken.py:1" in result.output
    assert "Traceback" not in result.output


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    result = run("check", tmp_path / "nothing.py")
    assert result.exit_code == 1
    assert "there is no file or folder" in result.output


def test_what_is_not_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("root:x:0:0\n")
    result = run("check", tmp_path / "passwords")
    assert result.exit_code == 1 and "is not a Python file" in result.output and "Error:" not in result.output


def test_emitted_queries_are_smt_lib(tmp_path: Path) -> None:
    result = run("check", write(tmp_path / "e", good=GOOD), "--emit-smt", tmp_path / "smt")
    assert result.exit_code == 0
    assert all("(check-sat)" in p.read_text() for p in (tmp_path / "smt").glob("*.smt2"))
    assert list((tmp_path / "smt").glob("double-*.smt2"))


def test_explain_shows_an_example_and_lists_codes() -> None:
    assert "@zl.kernel" in run("explain", "zl0301").output
    assert "ZL0301" in run("explain").output
    assert run("explain", "ZL9999").exit_code == 1


def test_the_library_is_proved_without_unsafe_blocks() -> None:
    result = run("audit", "--json")
    assert result.exit_code == 0, result.output
    kernels = json.loads(result.output)["kernels"]
    assert len(kernels) > 10
    assert all(k["proved"] and k["unsafe"] == 0 and k["obligations"] > 0 for k in kernels)
    assert {"name", "file", "line", "proved", "obligations", "how", "seconds", "unsafe"} <= kernels[0].keys()
