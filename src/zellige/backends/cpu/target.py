"""Which instructions generated code may use: the host's by default, a named instruction set on request."""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any

# Feature strings are LLVM's. Each set names everything it needs beyond the baseline CPU, so that a forced target
# means the same machine code on every host.
_AVX2 = ("sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
_AVX512 = (*_AVX2, "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
_AVX512_BF16 = (*_AVX512, "avx512bf16", "avx512vnni")
_AMX = ("amx-tile", "amx-bf16", "amx-int8")
_NAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "generic": ("x86-64", ()),
    "avx2": ("x86-64", _AVX2),
    "avx512": ("x86-64", _AVX512),
    "avx512bf16": ("x86-64", _AVX512_BF16),
    "amx": ("x86-64", (*_AVX512_BF16, *_AMX)),
}


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set to compile for.

    `vector_bits` is the width of one vector register, `vectors` how many of them there are.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    vectors: int
    fma: bool
    bf16_dot: bool
    tiles: bool
    """Matrix registers of 16 rows of 64 bytes (AMX), with products of bf16."""
    f16_convert: bool

    @property
    def lanes(self) -> int:
        """f32 lanes of one register."""
        return self.vector_bits // 32


@functools.cache
def initialize_llvm() -> None:
    """Makes LLVM's code generator for this machine available; cheap after the first call."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@functools.cache
def target(name: str = "host") -> Target:
    """The target called `name`: `host`, `generic`, `avx2`, `avx512`, `avx512bf16` or `amx`.

    Raises KeyError for any other name, with those known.
    """
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    if name == "host":
        host = llvm.get_host_cpu_features()
        have = {feature for feature, present in host.items() if present}
        features = host.flatten()
        if "amx-bf16" in have and not tiles_permitted():
            have -= set(_AMX)
            features += "".join(f",-{feature}" for feature in _AMX)
        return _describe(name, triple, llvm.get_host_cpu_name(), features, have)
    if name not in _NAMED:
        raise KeyError(f"no CPU target {name!r}: choose host, {', '.join(_NAMED)}")
    cpu, features = _NAMED[name]
    return _describe(name, triple, cpu, ",".join(f"+{feature}" for feature in features), set(features))


_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def tiles_permitted() -> bool:
    """Whether this process may use AMX. The kernel wants to be asked first: tile registers enlarge what it saves for a thread."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def _describe(name: str, triple: str, cpu: str, features: str, have: set[str]) -> Target:
    wide = "avx512f" in have and "avx512vl" in have and "avx512bw" in have
    bits = 512 if wide else 256 if "avx2" in have else 128
    if wide and "prefer-256-bit" not in features:
        features += ",-prefer-256-bit"
    return Target(
        name=name,
        triple=triple,
        cpu=cpu,
        features=features,
        vector_bits=bits,
        vectors=32 if wide or "aarch64" in triple else 16,
        fma="fma" in have or "aarch64" in triple,
        bf16_dot=wide and "avx512bf16" in have,
        tiles=wide and "avx512bf16" in have and "amx-bf16" in have,
        f16_convert="f16c" in have or "aarch64" in triple,
    )


@functools.cache
def target_machine(chosen: Target) -> Any:
    """LLVM's target machine for `chosen` (llvmlite's TargetMachine)."""
    import llvmlite.binding as llvm

    initialize_llvm()
    return llvm.Target.from_triple(chosen.triple).create_target_machine(
        cpu=chosen.cpu, features=chosen.features, opt=3, reloc="pic", codemodel="default"
    )
