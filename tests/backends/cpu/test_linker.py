"""Object files brought into the process without LLVM."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import numpy as np
import pytest

import zellige as zl
from tests.backends.cpu.differential import pool
from zellige import f32
from zellige.backends.cpu import host as hosts
from zellige.backends.cpu.cache import read_entry, write_entry
from zellige.backends.cpu.compile import compile
from zellige.backends.cpu.linker import link
from zellige.backends.cpu.objects import object_code
from zellige.backends.cpu.target import target

pytestmark = pytest.mark.skipif(
    target().arm or "linux" not in target().triple, reason="only x86-64 Linux objects are linked here"
)
M, N = zl.dims("M N")
TEXT = """
@numbers = internal constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
@calls = internal global i64 40
declare double @cos(double)
declare i64 @strlen(ptr)
@word = internal constant [6 x i8] c"seven\\00"
define double @cosine_of(i64 %i) {
  %at = getelementptr [4 x double], ptr @numbers, i64 0, i64 %i
  %x = load double, ptr %at
  %y = call double @cos(double %x)
  ret double %y
}
define i64 @count() {
  %old = load i64, ptr @calls
  %length = call i64 @strlen(ptr @word)
  %new = add i64 %old, %length
  store i64 %new, ptr @calls
  ret i64 %new
}
"""


def made(text=TEXT, name="generic"):
    return object_code(text, lambda: text, target(name), None)


def function(address, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def test_constants_variables_and_library_functions_are_reached():
    found = link(made(), ("cosine_of", "count"))
    assert found is not None
    cosine = function(found["cosine_of"], ctypes.c_double, ctypes.c_int64)
    assert [cosine(i) for i in range(4)] == pytest.approx(np.cos([1.5, 2.5, 3.5, 4.5]))
    count = function(found["count"], ctypes.c_int64)
    assert (count(), count()) == (45, 50)


def test_each_linking_has_variables_of_its_own():
    code = made()
    one, other = (link(code, ("count",)) for _ in range(2))
    assert one is not None and other is not None
    assert function(one["count"], ctypes.c_int64)() == function(other["count"], ctypes.c_int64)() == 45


def test_code_cannot_be_written_and_data_cannot_be_run():
    found = link(made(), ("count",))
    assert found is not None
    with open("/proc/self/maps") as maps:
        rights = [line.split()[1] for line in maps if _holds(line, found["count"])]
    assert rights == ["r-xp"]


def _holds(line, address):
    low, high = (int(part, 16) for part in line.split()[0].split("-"))
    return low <= address < high


@pytest.mark.parametrize(
    ("code", "symbols"),
    [
        (lambda: b"", ()),
        (lambda: b"\xcf\xfa\xed\xfe" + bytes(400), ("count",)),
        (lambda: made()[:200], ("count",)),
        (lambda: made(name="aarch64"), ("count",)),
        (made, ("missing",)),
        (lambda: made("declare void @no_such_function_anywhere()\ndefine void @f() {\n call void @no_such_function_anywhere()\n ret void\n}\n"), ("f",)),
        (lambda: made("@x = thread_local global i64 1\ndefine ptr @f() {\n ret ptr @x\n}\n"), ("f",)),
        (lambda: made("@x = external global i64\ndefine ptr @f() {\n ret ptr @x\n}\n"), ("f",)),
    ],
    ids=["empty", "foreign", "cut", "another machine", "no such symbol", "no such function", "thread local", "external data"],
)  # fmt: skip
def test_what_is_not_understood_is_left_to_llvm(code, symbols):
    assert link(code(), symbols) is None


def test_kernels_whose_objects_are_on_disk_run_without_llvm(tmp_path):
    script = """
import sys, numpy as np
from zellige.kernels.norm import rms_norm
x = np.random.default_rng(0).standard_normal((5, 96), dtype=np.float32)
y = rms_norm(x, np.ones(96, np.float32), 1e-5).numpy()
print("llvmlite" in sys.modules, y.tobytes().hex())
"""
    runs = []
    for _ in range(2):
        environment = {"ZELLIGE_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(p for p in sys.path if p)}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        runs.append(run.stdout.split())
    (first, bits), (second, same_bits) = runs
    assert (first, second) == ("True", "False")
    assert bits == same_bits


def test_a_damaged_description_of_the_host_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path))
    true = hosts.host.__wrapped__()
    (entry,) = (tmp_path / "cpu").glob("*.host")
    stored = read_entry(entry)
    assert stored is not None and json.loads(stored)["features"] == true.features
    entry.write_bytes(b"damaged")
    assert hosts.host.__wrapped__() == true
    assert read_entry(entry) == stored
    write_entry(entry, json.dumps({**json.loads(stored), "cpu": "told"}).encode())
    assert hosts.host.__wrapped__().cpu == "told"


@zl.kernel
def shifted(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 64):
    i = zl.grid(M.tiles(B))
    y[i] = zl.sin(x[i]) + 0.123456


@pytest.mark.parametrize("name", ["generic", "avx2", "host"])
def test_both_linkers_give_the_same_numbers(name, monkeypatch):
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    found = []
    for own in (True, False):
        if not own:
            monkeypatch.setattr("zellige.backends.cpu.linker.link", lambda *_: None)
        y = np.zeros(100, np.float32)
        kernel = compile(shifted.lower({"B": 64}, {}), target=name, cache=None)
        words = kernel.pack({"x": x.ctypes.data, "y": y.ctypes.data}, {"M": 100})
        pool().launch(kernel.entry_address, words, kernel.num_programs({"M": 100}))
        found.append(y)
    assert found[0].tobytes() == found[1].tobytes() and np.allclose(found[0], np.sin(x) + 0.123456, atol=1e-6)
