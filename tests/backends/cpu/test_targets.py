"""Code for each instruction set, inspected as text: what it is made of, and what it must not contain.

x86 sets are run by the other tests of this folder where the machine has them, AArch64 by test_aarch64.py in an emulator.
"""

from __future__ import annotations

import re

import pytest

import zellige as zl
from zellige.backends.cpu import target as targets
from zellige.backends.cpu.compile import listing
from zellige.backends.cpu.target import NAMES, target
from zellige.ir.dtypes import ALL, BLOCKED
from zellige.kernels.embedding import embed
from zellige.kernels.linear import linear_matrix, linear_vector

ARM = [name for name in NAMES if name.startswith("aarch64")]
SIZES = {"N": 64, "K": 512}


def instructions(kernel, weight: str, name: str, statics: dict[str, int]) -> set[str]:
    """Instructions of a kernel on [64, 512] weights, and with a leading '@' what it calls."""
    text = listing(kernel.lower(statics, {"W": ALL[weight]}), SIZES, name).asm_text
    called = re.findall(r"^\t(?:bl|callq?)\t([\w@.]+)", text, re.MULTILINE)
    return set(re.findall(r"^\t([a-z]\w+)", text, re.MULTILINE)) | {"@" + c for c in called}


def matrix(weight: str, name: str) -> set[str]:
    return instructions(linear_matrix, weight, name, {"BM": 32, "BN": 32})


def vector(weight: str, name: str) -> set[str]:
    return instructions(linear_vector, weight, name, {"BN": 32})


def test_products_of_bf16_use_what_each_instruction_set_has() -> None:
    tiles = {"ldtilecfg", "tilezero", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"}
    assert tiles <= matrix("bf16", "amx")
    assert "vdpbf16ps" in matrix("bf16", "avx512bf16") and not tiles & matrix("bf16", "avx512bf16")
    assert "bfdot" in matrix("bf16", "aarch64-i8mm")
    for name in ("avx512", "avx2", "generic", "aarch64"):
        assert not (tiles | {"vdpbf16ps", "bfdot"}) & matrix("bf16", name)
    assert "fmla" in matrix("bf16", "aarch64")


@pytest.mark.parametrize("name", ARM)
@pytest.mark.parametrize("weight", ["f32", "f16", "bf16", *map(str, BLOCKED)])
def test_every_weight_format_compiles_for_aarch64_to_vector_code_without_calls(weight: str, name: str) -> None:
    made = vector(weight, name)
    assert "fmla" in made
    assert not {i for i in made if i.startswith("@")}, "the code calls nothing: conversions are instructions"
    assert "fmla" in matrix(weight, name) or "bfdot" in matrix(weight, name)


@pytest.mark.parametrize("weight", ["Q4_0", "Q4_K"])
def test_short_codes_are_looked_up_where_a_register_holds_the_table(weight: str) -> None:
    assert "vpermd" in vector(weight, "avx512") or "vpermps" in vector(weight, "avx512")
    assert "vcvtdq2ps" in vector(weight, "avx2")


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_an_embedding_are_unpacked_by_vectors(name: str) -> None:
    text = listing(embed.lower({}, {"W": ALL["Q6_K"]}), {"D": 512, "V": 64}, name).asm_text
    assert len(text.splitlines()) < 1500, "256 elements one by one would be longer"


def test_without_permission_the_host_has_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "tiles_permitted", lambda: False)
    host = target.__wrapped__("host")
    assert not host.tiles
    assert "amx-tile" not in host.needs and not re.search(r"\+amx", host.features)


A, B, C, R = zl.dims("A B C R")


@zl.kernel
def two_products(
    x: zl.In[zl.f32, A, C], keys: zl.In[zl.f16, R, C], values: zl.In[zl.f16, R, C], place: zl.In[zl.Index[R], B], *,
    y: zl.Out[zl.f32, A, C], LOOKED_UP: zl.Static,
):  # fmt: skip
    """Products with rows of two arrays, at places that are looked up or are the first ones."""
    zl.grid()
    zl.requires(B <= R)
    rows = place[:] if LOOKED_UP else zl.arange(B)
    y[:, :] = zl.dot(zl.dot(x[:, :], keys[rows, :].to(zl.f32).T), values[rows, :].to(zl.f32))


def test_rows_of_a_second_array_are_asked_for_only_if_the_processor_cannot_foresee_them() -> None:
    sizes = {"A": 4, "B": 32, "C": 64, "R": 4096}
    text = {
        looked_up: listing(two_products.lower({"LOOKED_UP": looked_up}, {}), sizes, "avx512").asm_text
        for looked_up in (0, 1)
    }
    assert "prefetch" in text[1] and "prefetch" not in text[0]
