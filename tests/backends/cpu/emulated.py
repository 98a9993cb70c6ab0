"""Runs code for AArch64 in an emulator, QEMU's user mode, where that and a cross compiler (for its linker) are installed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zellige.backends.cpu.compile import _slots, _symbol, listing
from zellige.backends.cpu.objects import object_code
from zellige.ir.ops import Function

LINKER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
AVAILABLE = bool(shutil.which(LINKER) and shutil.which(EMULATOR))


def run_emulated(
    function: Function, dims: Mapping[str, int], arrays: Mapping[str, np.ndarray], target: str, folder: Path
) -> None:
    """Runs `function` for an AArch64 `target` with every dim fixed, writing outputs in place; arrays lie between 0xFF bytes."""
    made = listing(function, dims, target)
    code = folder / "kernel.o"
    code.write_bytes(object_code("", lambda: made.llvm_text, made.target, None))
    program, data = folder / "program", folder / "data"
    source = str(Path(__file__).with_name("emulated.c"))
    link = [LINKER, "-O1", "-static", f"-DENTRY={_symbol(function)}", source, str(code), "-lm", "-o", str(program)]
    subprocess.run(link, check=True, capture_output=True)
    programs = 1
    for axis in made.function.grid:
        programs *= int(axis.programs.substitute(dims).constant or 0)
    slots = _slots(made.function, frozenset())
    words = [struct.pack("<qq", len(slots), programs)]
    for slot in slots:
        assert slot.kind == "pointer", "only arrays are passed"
        words.append(struct.pack("<q", arrays[slot.name].nbytes) + arrays[slot.name].tobytes())
    data.write_bytes(b"".join(words))
    done = subprocess.run([EMULATOR, "-cpu", "max", str(program), str(data)], capture_output=True, check=False)
    assert done.returncode == 0, f"exit code {done.returncode} (3: it wrote outside an array)"
    left = data.read_bytes()
    for slot in slots:
        array = arrays[slot.name]
        array[...] = np.frombuffer(left[: array.nbytes], array.dtype).reshape(array.shape)
        left = left[array.nbytes :]
