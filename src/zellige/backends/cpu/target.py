"""Which instructions generated code may use: the host's by default, a named instruction set on request."""

from __future__ import annotations

import ctypes
import difflib
import functools
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any

from zellige.backends.cpu.host import host
from zellige.diagnostics.errors import ZelligeError

# Feature strings are LLVM's. Each set names everything it needs beyond the baseline CPU, so that a forced target
# means the same machine code on every host.
_AVX2 = ("sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
_AVX512 = (*_AVX2, "avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512cd")
_AVX512_BF16 = (*_AVX512, "avx512bf16", "avx512vnni")
_AMX = ("amx-tile", "amx-bf16", "amx-int8")
_X86, _ARM = "x86-64", "generic"  # LLVM's names of the baseline CPUs
_NAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    "generic": (_X86, ()),
    "avx2": (_X86, _AVX2),
    "avx2vnni": (_X86, (*_AVX2, "avxvnni")),
    "avx512": (_X86, _AVX512),
    "avx512bf16": (_X86, _AVX512_BF16),
    "amx": (_X86, (*_AVX512_BF16, *_AMX)),
    "aarch64": (_ARM, ("neon",)),
    "aarch64-dotprod": (_ARM, ("neon", "dotprod")),
    "aarch64-i8mm": (_ARM, ("neon", "dotprod", "i8mm", "bf16")),
}
NAMES = ("host", *_NAMED)


class ByteDot(Enum):
    """What multiplies bytes and adds up four neighbours (or more) in i32."""

    NONE = "none"
    VNNI = "vpdpbusd"
    """Unsigned by signed bytes (AVX-512 VNNI, AVX-VNNI)."""
    DOTPROD = "sdot"
    """Signed by signed (AArch64 dotprod)."""
    I8MM = "smmla"
    """2×8 by 8×2 (AArch64 i8mm)."""


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set to compile for.

    `vector_bits` is the width of one vector register, `vectors` how many of them there are.
    """

    name: str
    triple: str
    cpu: str
    features: str
    needs: frozenset[str]
    """Features of a named target that the machine must have; of the host, those it has."""
    vector_bits: int
    vectors: int
    fma: bool
    bf16_dot: bool
    tiles: bool
    """Matrix registers of 16 rows of 64 bytes (AMX), with products of bf16 and of bytes."""
    byte_dot: ByteDot
    f16_convert: bool

    @property
    def lanes(self) -> int:
        """f32 lanes of one register."""
        return self.vector_bits // 32

    @property
    def arm(self) -> bool:
        """AArch64, otherwise x86-64."""
        return self.triple.startswith(("aarch64", "arm64"))

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run its code."""
        here = target()
        return self.arm == here.arm and self.needs <= here.needs


@functools.cache
def initialize_llvm() -> None:
    """Makes LLVM's code generators available, this machine's and others'; cheap after the first call."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@functools.cache
def target(name: str = "host") -> Target:
    """The target called `name`, one of `NAMES`. ZelligeError ZL0518 for any other name."""
    machine = host()
    triple = machine.triple
    if name == "host":
        features = machine.features
        have = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
        if "amx-bf16" in have and not tiles_permitted():
            have -= set(_AMX)
            features = ",".join(f"-{f[1:]}" if f[1:] in _AMX else f for f in features.split(","))
        return _describe(name, triple, machine.cpu, features, have)
    if name not in _NAMED:
        close = difflib.get_close_matches(name, NAMES, 1) or ["host"]
        raise ZelligeError(
            "ZL0518",
            f"there is no CPU instruction set '{name}'",
            facts={"known": ", ".join(NAMES)},
            help=f"write {close[0]}",
        )
    cpu, wanted = _NAMED[name]
    if _AMX[0] in wanted:
        tiles_permitted()  # asked for, in case its code is run; as text it needs no permission
    chosen = f"{'aarch64' if cpu is _ARM else 'x86_64'}-unknown-linux-gnu"
    if triple.split("-")[0] in _ALIASES[chosen.split("-")[0]]:
        chosen = triple
    return _describe(name, chosen, cpu, ",".join(f"+{feature}" for feature in wanted), set(wanted))


_ALIASES = {"aarch64": ("aarch64", "arm64"), "x86_64": ("x86_64", "amd64")}

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def tiles_permitted() -> bool:
    """Whether this process may use AMX. The kernel wants to be asked first: tile registers enlarge what it saves for a thread."""
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def _describe(name: str, triple: str, cpu: str, features: str, have: set[str]) -> Target:
    arm = triple.startswith(("aarch64", "arm64"))
    wide = "avx512f" in have and "avx512vl" in have and "avx512bw" in have
    bits = 512 if wide else 256 if "avx2" in have else 128
    if wide and "prefer-256-bit" not in features:
        features += ",-prefer-256-bit"
    return Target(
        name=name,
        triple=triple,
        cpu=cpu,
        features=features,
        needs=frozenset(have),
        vector_bits=bits,
        vectors=32 if wide or arm else 16,
        fma="fma" in have or arm,
        bf16_dot="bf16" in have if arm else wide and "avx512bf16" in have,
        tiles=wide and {"avx512bf16", "amx-bf16", "amx-int8"} <= have,
        byte_dot=_byte_dot(have, arm=arm, wide=wide),
        f16_convert="f16c" in have or arm,
    )


def _byte_dot(have: set[str], *, arm: bool, wide: bool) -> ByteDot:
    if arm:
        return ByteDot.I8MM if "i8mm" in have else ByteDot.DOTPROD if "dotprod" in have else ByteDot.NONE
    return ByteDot.VNNI if ("avx512vnni" if wide else "avxvnni") in have else ByteDot.NONE


@functools.cache
def target_machine(chosen: Target) -> Any:
    """LLVM's target machine for `chosen` (llvmlite's TargetMachine)."""
    import llvmlite.binding as llvm

    initialize_llvm()
    return llvm.Target.from_triple(chosen.triple).create_target_machine(
        cpu=chosen.cpu, features=chosen.features, opt=3, reloc="pic", codemodel="default"
    )
