"""A finding suggests an edit in the author's own names, and a kernel with that edit is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rejected.test_rejected import kernel_in, refusals
from zellige.diagnostics.findings import Finding

REJECTED = Path(__file__).parents[1] / "rejected"

EDITS = [
    ("off_by_one", "zl.only(i + 1, i + 1 < M)", [("x[i + 1]", "x[zl.only(i + 1, i + 1 < M)]")]),
    ("negative_index", "zl.only(i - 1, i - 1 >= 0)", [("x[i - 1]", "x[zl.only(i - 1, i - 1 >= 0)]")]),
    ("last_row", "write M - 1", [("x[-1, j]", "x[M - 1, j]")]),
    ("floor_instead_of_ceil", "M.tiles(8)",
     [("p = zl.grid(M // BM)", "i = zl.grid(M.tiles(8))"), ("y[p * BM + zl.arange(BM)]", "y[i]")]),
    ("attention_rows_overlap", "give each program its own elements", [("zl.arange(BM + 1)", "zl.arange(BM)")]),
    ("mask_one_too_far", "zl.only(i, i < M)", [("zl.only(i, i <= M)", "zl.only(i, i < M)")]),
    ("plain_integers_as_index", "zl.guard(rows[i], below=N)", [("x[rows[i]]", "x[zl.guard(rows[i], below=N)]")]),
    ("plain_integers_as_index", "rows: zl.In[zl.Index[N], …]", [("rows: zl.In[i32,", "rows: zl.In[zl.Index[N],")]),
    ("contract_of_another_dim", "declare it zl.Index[N]", [("zl.Index[K]", "zl.Index[N]")]),
    ("optional_without_test", "`if s.present:`",
     [("y: zl.Out", "y: zl.Mut"), ("    y[i] = x[rows[i]]", "    s = rows[i]\n    if s.present:\n        y[i] = x[s]")]),
    ("division_by_a_dim", "zl.requires(P > 0)", [("    i = zl.grid", "    zl.requires(P > 0)\n    i = zl.grid")]),
    ("division_by_loaded", "zl.maximum(length[b], 1)", [("// length[b]", "// zl.maximum(length[b], 1)")]),
    ("argmax_of_nothing", "zl.requires(V >= 1)", [("    b = zl.grid", "    zl.requires(V >= 1)\n    b = zl.grid")]),
    ("stored_index_too_large", "clamp the value", []),  # V stands in no shape, so that the kernel cannot name it
    ("reduction_without_acc", "y.add(0, zl.sum(x[k]))",
     [("zl.Mut[", "zl.Acc(init=0)["), ("y[0] = y[0] + zl.sum(x[k])", "y.add(0, zl.sum(x[k]))")]),
    ("scatter_with_duplicates", "zl.Index[N, zl.distinct]", [("zl.Index[N]", "zl.Index[N, zl.distinct]")]),
    ("neighbour_in_place", "a zl.Out of its own", []),
    ("stored_in_a_while", "store it once after the while", [("        y[m] =", "        value ="), ("j + 1", "j + 1\n    y[m] = value")]),
    ("filled_by_a_while", "before the while, which then replaces it (y[…] = 0)", [("    j = 0", "    y[m, :] = 0.0\n    j = 0")]),
    ("filled_by_a_while", "declare the array zl.Mut", [("zl.Out", "zl.Mut")]),
]  # fmt: skip
"""A refused kernel, what its first finding suggests, and the edit."""


def first(path: Path) -> Finding:
    return refusals(kernel_in(path))[0]


STORED = """import zellige as zl
from zellige import f32

B, V = zl.dims("B V")


@zl.kernel
def following(token: zl.In[zl.Index[V], B], x: zl.In[f32, V], *, y: zl.Out[zl.Index[V], B]):
    b = zl.grid(B)
    y[b] = token[b] + 1
"""


def test_a_stored_value_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "stored.py"
    path.write_text(STORED)
    assert "store zl.minimum(token[b] + 1, V - 1)" in first(path).help
    edited = tmp_path / "limited.py"
    edited.write_text(STORED.replace("= token[b] + 1", "= zl.minimum(token[b] + 1, V - 1)"))
    assert not refusals(kernel_in(edited))


@pytest.mark.parametrize(("name", "says", "edits"), EDITS, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(EDITS)])
def test_the_suggested_edit_is_accepted(name: str, says: str, edits: list[tuple[str, str]], tmp_path: Path) -> None:
    path = REJECTED / f"{name}.py"
    finding = first(path)
    assert says in finding.help
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    if edits:
        edited = tmp_path / f"{name}.py"
        edited.write_text(text)
        assert not refusals(kernel_in(edited))
