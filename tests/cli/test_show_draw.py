"""`zellige show` and `zellige draw` from the outside, with golden texts."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from test_check import BAD, GOOD, run, write

REJECTED = Path(__file__).parents[1] / "rejected"

MATMUL = """
import zellige as zl
from zellige import f32

M, N, K = zl.dims("M N K")
W = zl.dtypes("W", zl.f32, zl.bf16)


@zl.kernel
def matmul(a: zl.In[W, M, K], b: zl.In[W, K, N], *, c: zl.Out[f32, M, N],
           BM: zl.Static = 64, BN: zl.Static = 64, BK: zl.Static = 64):
    rows, cols = zl.grid(M.tiles(BM), N.tiles(BN))
    acc = zl.zeros((BM, BN), f32)
    for depth in K.tiles(BK):
        acc = zl.dot(a[rows, depth], b[depth, cols], acc)
    c[rows, cols] = acc
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "a", good=GOOD, bad=BAD, matmul=MATMUL)


# --- show
def test_ir_is_shown_for_chosen_statics_and_dims(folder: Path) -> None:
    result = run("show", f"{folder / 'good.py'}:double", "--static", "BM=8", "--dims", "M=20")
    assert result.exit_code == 0
    assert result.output == (
        "kernel double grid 8 of 20: 3 {\n"
        "  in x: In[f32, 20]\n"
        "  in y: Out[f32, 20]\n"
        "\n"
        "  # 10: i = zl.grid(M.tiles(BM))\n"
        "  %0: index = program_id 0\n"
        "  %1: index = constant 8\n"
        "  %2: index = binary mul %0, %1\n"
        "  %3: index[8] = iota\n"
        "  %4: index[8] = broadcast %2\n"
        "  %i.5: index[8] = binary add %4, %3\n"
        "  %6: index = extent 20\n"
        "  %7: index[8] = broadcast %6\n"
        "  %8: bool[8] = binary lt %i.5, %7\n"
        "\n"
        "  # 11: y[i] = x[i] * 2.0\n"
        "  %9: f32[8] = load x[%i.5] if %8 pad 0\n"
        "  %10: f32 = constant 2.0\n"
        "  %11: f32[8] = broadcast %10\n"
        "  %12: f32[8] = binary mul %9, %11\n"
        "  store y[%i.5] if %8 = %12\n"
        "}\n"
    )


def test_obligations_are_a_table_in_source_order(folder: Path) -> None:
    result = run("show", folder / "good.py", "--stage", "obligations")
    lines = result.output.splitlines()
    assert lines[0].split() == ["kind", "line", "source", "what", "how"]
    assert any("M.tiles(BM)" in line and "times)" in line for line in lines)
    numbers = [int(line.split()[1]) for line in lines[2 : lines.index("")]]
    assert numbers == sorted(numbers) and set(numbers) == {10, 11}
    assert any("every element of 'y' is written" in line for line in lines)
    assert lines[-1].startswith("kernel 'double': ") and lines[-1].endswith("proved for all sizes")


def test_obligations_of_a_refused_kernel_end_with_the_finding(folder: Path) -> None:
    result = run("show", folder / "bad.py", "--stage", "obligations")
    assert result.exit_code == 0
    assert "failed" in result.output and "refused, 1 found" in result.output and "error[ZL0201]" in result.output


def test_cpu_stages_follow_target_and_dtype(folder: Path) -> None:
    kernel = folder / "matmul.py"
    llvm = run("show", kernel, "--stage", "llvm", "--static", "BM=4,BN=16,BK=8", "--dtype", "W=bf16").output
    assert "define void @zellige_matmul(" in llvm
    wide = run("show", folder / "good.py", "--stage", "asm", "--target", "avx512").output
    narrow = run("show", folder / "good.py", "--stage", "asm", "--target", "avx2").output
    assert "%zmm" in wide and "%zmm" not in narrow and "%ymm" in narrow and ".cfi" not in wide


def test_a_library_kernel_that_both_devices_have_is_the_cpus_unless_its_module_is_named() -> None:
    assert "in x: In[f32, T, D]" in run("show", "rms_norm").output
    assert "in x: In[bf16, T, D]" in run("show", "gpu_elementwise.rms_norm").output


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_gpu_stages(folder: Path) -> None:
    assert "@triton.jit\ndef double" in run("show", folder / "good.py", "--stage", "triton").output
    assert ".target sm_90" in run("show", folder / "good.py", "--stage", "ptx").output


def test_machine_code_of_a_refused_kernel_is_not_shown(folder: Path) -> None:
    result = run("show", folder / "bad.py", "--stage", "asm")
    assert result.exit_code == 1 and "error[ZL0201]" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("rms_nor",), "ZL0131", "rms_norm"),
        (("nowhere.module:k",), "ZL0130", "nowhere.module"),
        (("good.py:treble",), "ZL0131", "double"),
        (("good.py", "--static", "BN=3"), "ZL0132", "it has BM"),
        (("good.py", "--static", "BM"), "ZL0132", "not NAME=VALUE"),
        (("good.py", "--dims", "M=-1"), "ZL0132", "whole number"),
        (("matmul.py", "--dtype", "W=f64"), "ZL0132", "one of f32, bf16"),
        (("matmul.py", "--dtype", "W=float"), "ZL0132", "there is no dtype"),
        (("good.py", "--stage", "asm", "--target", "mmx"), "ZL0518", "avx2"),
        (("good.py", "--stage", "ptx", "--target", "mmx"), "ZL0132", "sm_90"),
        (("rms_norm", "--stage", "asm"), "ZL0132", "--dims D="),
    ],
)
def test_mistakes_in_a_show_command_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str, hint: str
) -> None:
    monkeypatch.chdir(folder)
    result = run("show", *arguments)
    assert result.exit_code == 1
    assert f"error[{code}]" in result.output and hint in result.output


# --- draw
def test_tiles_are_drawn_by_program(folder: Path) -> None:
    result = run("draw", folder / "matmul.py", "--sizes", "M=5,N=7,K=3", "--static", "BM=2,BN=4,BK=2")
    assert result.output == (
        "matmul · K = 3, M = 5, N = 7 · BM = 2, BN = 4, BK = 2, W = f32\n"
        "proved for all sizes\n"
        "\n"
        "c: Out[f32, M, N]: every element written by one program\n"
        "      0 1 2 3 4 5 6\n"
        "  0 │ 0 0 0 0 1 1 1\n"
        "  1 │ 0 0 0 0 1 1 1\n"
        "  2 │ 2 2 2 2 3 3 3\n"
        "  3 │ 2 2 2 2 3 3 3\n"
        "  4 │ 4 4 4 4 5 5 5\n"
        "\n"
        "programs: 0 = (0, 0)  1 = (0, 1)  2 = (1, 0)  3 = (1, 1)  4 = (2, 0)  5 = (2, 1)\n"
    )


def test_a_refused_kernel_is_drawn_at_its_counterexample(folder: Path) -> None:
    result = run("draw", folder / "bad.py")
    assert result.exit_code == 0
    assert result.output == (
        "shift · M = 1 · BM = 32\n"
        "refused: ZL0201, index out of bounds on axis 0 of 'x': 1 is not below 1\n"
        "\n"
        "x: In[f32, M]: 1 coordinate out of bounds\n"
        "     0 1\n"
        "   │   !\n"
        "\n"
        "y: Out[f32, M]: every element written by one program\n"
        "     0\n"
        "   │ 0\n"
        "\n"
        "programs: 0 = (0)\n"
        "  !  out of bounds: there is no such element\n"
    )


@pytest.mark.parametrize(
    ("name", "sizes", "summary", "row"),
    [
        ("every_other_element", "M=3", "3 gaps", "   │ 0 . 1 . 2 ."),
        ("two_programs_one_row", "M=2,N=2", "2 overlaps", "   │ # #"),
        ("swapped_output_axes", "M=2,H=3,D=1", "2 gaps, 2 coordinates out of bounds", "  1, 2 │ ."),
        ("scatter_in_a_tile", None, "1 overlap", "  0 │ #"),
        ("output_never_stored", None, "gap", "."),
    ],
)
def test_gaps_overlaps_and_lanes_outside_are_marked(name: str, sizes: str | None, summary: str, row: str) -> None:
    result = run("draw", REJECTED / f"{name}.py", *(("--sizes", sizes) if sizes else ()))
    assert result.exit_code == 0, result.output
    assert summary in result.output and row in result.output


def test_every_kernel_of_the_refused_ones_with_a_counterexample_can_be_drawn() -> None:
    drawn = 0
    for path in sorted(REJECTED.glob("*.py")):
        if path.stem.startswith(("_", "test_")):
            continue
        result = run("draw", path)
        assert result.exception is None or isinstance(result.exception, SystemExit), path.stem
        assert result.exit_code == 0 or "error[ZL0" in result.output, (path.stem, result.output)
        drawn += result.exit_code == 0 and "refused: ZL" in result.output
    assert drawn > 30


def test_the_svg_has_one_square_an_element_in_the_colour_of_its_program(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    result = run("draw", folder / "good.py", "--sizes", "M=10", "--static", "BM=4", "--output", picture)
    assert result.exit_code == 0
    tree = ElementTree.parse(picture)
    fills = [e.get("fill") for e in tree.iter("{http://www.w3.org/2000/svg}rect")]
    squares = [f for f in fills if f and f.startswith("#") and f != "#ffffff"]
    colours = list(dict.fromkeys(squares))[1:]  # after the hatching's
    assert [squares.count(c) for c in colours] == [4 + 1, 4 + 1, 2 + 1]  # elements and legend
    texts = [e.text for e in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "double · M = 10 · BM = 4" and "(2)" in texts


def test_the_picture_depends_on_the_seed_alone() -> None:
    name = REJECTED / "scatter_with_duplicates.py"
    assert run("draw", name, "--seed", 3).output == run("draw", name, "--seed", 3).output


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("good.py",), "ZL0133", "--sizes M=5"),
        (("good.py", "--sizes", "N=5"), "ZL0132", "it has M"),
        (("good.py", "--sizes", "M=100000"), "ZL0133", "at most 4096"),
        (("good.py", "--sizes", "M=4", "--output", "a.png"), "ZL0133", ".svg"),
        (("good.py", "--sizes", "M=4", "--output", "nowhere/a.svg"), "ZL0133", "cannot be written"),
    ],
)
def test_mistakes_in_a_draw_command_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str, hint: str
) -> None:
    monkeypatch.chdir(folder)
    result = run("draw", *arguments)
    assert result.exit_code == 1
    assert f"error[{code}]" in result.output and hint in result.output


def test_a_seed_is_not_negative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = run("draw", "good.py", "--sizes", "M=4", "--seed", -1)
    assert result.exit_code == 2 and "not in the range" in result.output
