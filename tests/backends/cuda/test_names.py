"""What an author calls parameters and dims is never a name that generated code needs for something else."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of
from tests.backends.cuda.test_compiler import GPU_KERNELS

import zellige as zl
from zellige.backends.cuda.compiler import compile as compile_for_gpu
from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.source import _RESERVED
from zellige.ir.ops import Function
from zellige.ir.walk import specialise
from zellige.runtime.kernel import Kernel

SOURCE = """
@zl.kernel
def made(
    x: zl.In[zl.f32, M, N], cuts: zl.In[zl.Offsets[M], S + 1], row: zl.In[zl.i32, M], least: zl.f32,
    *, y: zl.Out[zl.f32, M, N], most: zl.Acc[zl.f32, N], z: zl.Mut[zl.bf16, M, N],
):
    s, rows, columns = zl.grid(cuts.tiles(4), N.tiles(8))
    old = x[zl.guard(row[rows], below=M), columns]
    new = zl.where(old > least, zl.erf(old), (s + zl.argmax(z[rows, columns], axis=0, pad=-zl.inf)[None, :]).to(zl.f32))
    y[rows, columns] = new
    z[rows, columns] = z[rows, columns] + zl.tanh(new).to(zl.bf16)
    most.max(columns, zl.max(new, axis=0, pad=-zl.inf))
"""
PLAIN = ("x", "cuts", "row", "least", "y", "most", "z", "M", "N", "S")
SIZES = (6, 5, 3)
LAYOUT = {"x": (None, 1), "y": (None, None)}
NAMES = [
    ("tl", "triton", "libdevice", "tuple", "float", "gdc_wait", "gdc_launch_dependents", "ready", "empty", "MEMBER"),
    ("_first_largest", "_places", "x_stride_0", "guard_flag", "x", "_value", "_", "__", "_2", "tl_2"),
    ("x", "x_at", "x_tile", "pid", "x_stride_0", "x_stride_1", "tile", "guard_flag", "start", "bad"),
    ("gluon", "mbarrier", "tma", "warpgroup_mma", "warpgroup_mma_init", "warpgroup_mma_wait", "i", "range", "len", "buffers_0"),
    ("y", "made_kernel", "made", "print", "object", "x_2", "lanes", "int", "z", "x"),
]  # fmt: skip


PRODUCT = """
@zl.kernel
def made(x: zl.In[zl.bf16, M, K], w: zl.In[zl.bf16, N, K], *, y: zl.Out[zl.f32, M, N]):
    rows, columns = zl.grid(M.tiles(128), N.tiles(64))
    acc = zl.zeros((128, 64), zl.f32)
    for depth in K.tiles(64):
        acc = zl.dot(x[rows, depth], w[columns, depth].T, acc)
    y[rows, columns] = acc
"""


def _renamed(source: str, new: dict[str, str], dims: Sequence[str]) -> Function:
    """The kernel of a source with other names; ``dims``: its dims, as they are then called."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = new[node.arg]
    text, file = ast.unparse(tree), f"<{', '.join(new.values())}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"zl": zl} | {name: zl.dims(name) for name in dims}
    exec(compile(text, file, "exec"), scope)
    kernel: Kernel = scope["made"]
    return function_of(kernel)


def _function(names: tuple[str, ...], *, source: str = SOURCE) -> Function:
    """The kernel of ``SOURCE`` with these names in place of the plain ones."""
    return _renamed(source, dict(zip(PLAIN, names, strict=True)), names[7:])


def _options(names: tuple[str, ...]) -> Options:
    new = dict(zip(PLAIN, names, strict=True))
    return Options(layouts={new[name]: strides for name, strides in LAYOUT.items()})


@pytest.mark.parametrize("names", [PLAIN, *NAMES], ids=" ".join)
def test_any_name_does(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(5)
    m, n, s = SIZES
    contents = {
        "x": rng.random((m, n), np.float32), "cuts": np.array([0, 2, 2, 6], np.int32), "row": np.arange(m, dtype=np.int32)[::-1],
        "y": np.zeros((m, n), np.float32), "most": np.full(n, -1, np.float32), "z": np.zeros((m, n), np.float32),
    }  # fmt: skip
    new = dict(zip(PLAIN, names, strict=True))
    arrays, dims = (
        {new[k]: np.ascontiguousarray(v) for k, v in contents.items()},
        dict(zip(names[7:], (m, n, s), strict=True)),
    )
    function = _function(
        names, source=SOURCE.replace("zl.tanh", "zl.abs").replace("bf16", "f32")
    )  # Triton's interpreter has neither
    compare(function, dims, arrays, {new["least"]: 0.5}, fixed={}, rtol=1e-5)


@pytest.mark.parametrize("names", [PLAIN, *NAMES], ids=" ".join)
def test_any_name_compiles(names: tuple[str, ...]) -> None:
    made = compile_for_gpu(_function(names), {}, "sm_90", _options(names))
    assert [p.name for p in made.parameters if p.kind in ("array", "scalar")] == [*names[:3], *names[4:7], names[3]]
    assert sorted(p.name for p in made.parameters if p.kind == "dim") == sorted(names[7:])


@pytest.mark.parametrize(
    ("x", "w", "y", "m"),
    [
        ("x", "w", "y", "M"),
        ("i", "buffers_0", "ready", "x_box_layout"),
        ("_i", "_buffers_0", "tma", "MEMBER"),
        ("mbarrier", "tl", "gluon", "empty"),
    ],
)
def test_products_by_warp_groups_take_any_name(x: str, w: str, y: str, m: str) -> None:
    function = _renamed(PRODUCT, {"x": x, "w": w, "y": y, "M": m}, (m, "N", "K"))
    options = Options(num_stages=4, descriptors=frozenset((x, w)), persistent=1, consumers=2)
    made = compile_for_gpu(function, {"N": 4096, "K": 4096}, "sm_90", options)
    assert [p.name for p in made.parameters] == [x, w, y, m]
    tree = ast.parse(made.source)
    outermost = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "made_kernel")
    own = {n.id for n in ast.walk(outermost) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert not own & {n.arg for n in outermost.args.args}


@pytest.mark.parametrize("case", GPU_KERNELS, ids=lambda case: case[0].name)
def test_what_generated_code_takes_from_outside_is_reserved(case: tuple[Any, ...]) -> None:
    kernel, statics, dims, options = case
    tree = ast.parse(lower(specialise(function_of(kernel, **statics), dims), options).text)
    for function in [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]:
        inside = list(ast.walk(function))
        given = {n.arg for n in inside if isinstance(n, ast.arg)}
        given |= {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        outside = {n.id for n in inside if isinstance(n, ast.Name)} - given
        assert {name for name in outside if not name.startswith("_")} <= _RESERVED
