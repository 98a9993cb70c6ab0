"""The cache of compiled objects, and targets by name."""

from __future__ import annotations

import ast
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import pool
from zellige import f32
from zellige.backends.cpu.compile import compile, listing
from zellige.backends.cpu.objects import SOURCES
from zellige.backends.cpu.target import target
from zellige.diagnostics import ZelligeError

M, N, K = zl.dims("M N K")


@zl.kernel
def double(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 64):
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * 2.0


def run(kernel):
    x, y = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    words = kernel.pack({"x": x.ctypes.data, "y": y.ctypes.data}, {"M": 100})
    pool().launch(kernel.entry_address, words, kernel.num_programs({"M": 100}))
    np.testing.assert_array_equal(y, 2 * x)


def entries(folder):
    return sorted(folder.glob("*.o"))


def test_a_second_compilation_reads_the_first_ones_object(tmp_path):
    function = double.lower({"B": 64}, {})
    run(compile(function, cache=tmp_path))
    (entry,) = entries(tmp_path)
    before = entry.stat().st_mtime_ns
    run(compile(double.lower({"B": 64}, {}), cache=tmp_path))
    assert entries(tmp_path) == [entry]
    assert entry.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign"])
def test_a_damaged_entry_is_rebuilt(tmp_path, damage):
    function = double.lower({"B": 64}, {})
    compile(function, cache=tmp_path)
    (entry,) = entries(tmp_path)
    sound = entry.read_bytes()
    entry.write_bytes(
        {"empty": b"", "cut": sound[:-7], "flipped": sound[:-1] + bytes([sound[-1] ^ 1]), "foreign": b"x" * 500}[damage]
    )
    run(compile(function, cache=tmp_path))
    assert entry.read_bytes() == sound


def test_different_sizes_tiles_and_targets_are_different_objects(tmp_path):
    compile(double.lower({"B": 64}, {}), cache=tmp_path)
    compile(double.lower({"B": 32}, {}), cache=tmp_path)
    compile(double.lower({"B": 64}, {}), {"M": 128}, cache=tmp_path)
    compile(double.lower({"B": 64}, {}), target="avx2", cache=tmp_path)
    assert len(entries(tmp_path)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    run(compile(double.lower({"B": 64}, {}), cache=tmp_path))


def test_a_cache_path_that_is_a_file_is_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    run(compile(double.lower({"B": 64}, {}), cache=blocked))
    assert blocked.read_text() == "in the way"


def test_forced_targets_use_only_their_instructions():
    function = double.lower({"B": 64}, {})
    texts = {name: listing(function, target=name).asm_text for name in ("generic", "avx2", "avx512")}
    assert "ymm" not in texts["generic"] and "zmm" not in texts["generic"]
    assert "ymm" in texts["avx2"] and "zmm" not in texts["avx2"]
    assert "zmm" in texts["avx512"]


def test_an_unknown_target_is_refused():
    with pytest.raises(ZelligeError, check=lambda error: error.code == "ZL0518") as caught:
        target("avx1024")
    assert "avx1024" in caught.value.message and "avx512bf16" in caught.value.facts["known"]
    assert "avx512" in caught.value.help


def test_code_for_another_machine_is_listed_but_not_run():
    function = double.lower({"B": 64}, {})
    assert "fadd\tv" in listing(function, target="aarch64").asm_text
    with pytest.raises(ZelligeError, check=lambda error: error.code == "ZL0518") as caught:
        compile(function, target="aarch64", cache=None)
    assert caught.value.facts["lacking"] == "another architecture"
    rich = replace(target("avx2"), name="richer", needs=target("avx2").needs | {"avx4096"})
    with pytest.raises(ZelligeError, check=lambda error: error.code == "ZL0518") as caught:
        compile(function, target=rich, cache=None)
    assert "avx4096" in caught.value.facts["lacking"]


def test_a_shape_that_is_not_fixed_is_refused():
    @zl.kernel
    def whole(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        y[:] = x[:]

    with pytest.raises(ZelligeError, check=lambda error: error.code == "ZL0519") as caught:
        compile(whole.lower({}, {}), {}, cache=None)
    assert "depends on M" in caught.value.message


@zl.kernel
def product(a: zl.In[zl.bf16, M, K], w: zl.In[zl.bf16, N, K], *, y: zl.Out[zl.f32, M, N], BM: zl.Static = 64):
    rows = zl.grid(M.tiles(BM))
    y[rows, :] = zl.dot(a[rows, :], w[:, :].T)


def test_each_target_multiplies_bf16_with_the_best_instruction_that_it_has():
    function = product.lower({"BM": 64}, {})
    names = ("amx", "avx512bf16", "avx512")
    texts = {name: listing(function, {"N": 64, "K": 64}, name).asm_text for name in names}
    assert "tdpbf16ps" in texts["amx"] and "ldtilecfg" in texts["amx"] and "tilerelease" in texts["amx"]
    assert "vdpbf16ps" in texts["avx512bf16"] and "tdpbf16ps" not in texts["avx512bf16"]
    assert "dpbf16ps" not in texts["avx512"] and "vfmadd" in texts["avx512"]


def test_the_key_of_an_object_covers_the_source_of_all_that_makes_code():
    """Bounds of values decide widths and masks: code made with another version of them is other code (2026-11-29)."""
    told_by_content_or_messages = ("zellige.diagnostics.",)
    hashed = {f"zellige.{'.'.join(folder.parts[folder.parts.index('zellige') + 1 :])}" for folder in SOURCES}
    for folder in SOURCES:
        for path in folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("zellige."):
                    for name in (f"{node.module}.{alias.name}." for alias in node.names):
                        known = any(name.startswith(f"{package}.") for package in hashed)
                        assert known or name.startswith(told_by_content_or_messages), f"{path.name}: {name}"
