"""LLVM text to callable machine code, with the object files kept on disk under a hash of what they were made from."""

from __future__ import annotations

import functools
import hashlib
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zellige import ir, passes
from zellige.backends import cpu
from zellige.backends.cpu.cache import FORMAT, read_entry, write_entry
from zellige.backends.cpu.host import host
from zellige.backends.cpu.target import Target, initialize_llvm, target_machine

SOURCES = tuple(Path(str(package.__file__)).parent for package in (cpu, ir, passes))
"""The packages that decide what code a function becomes: bounds of values, for one, say how wide its integers are."""
_names = itertools.count()
_lock = threading.RLock()
_keep_alive: list[Any] = []  # code is never unloaded: its address may be recorded in any launch sequence


def optimise(text: str, chosen: Target) -> Any:
    """LLVM module (llvmlite ModuleRef) of `text`, verified and put through the O3 pipeline for `chosen`.

    Raises RuntimeError with LLVM's message when `text` is not well-formed: a defect of the code generator.
    """
    import llvmlite.binding as llvm

    initialize_llvm()
    module = llvm.parse_assembly(text)
    module.triple = chosen.triple
    machine = target_machine(chosen)
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = False  # the lowering has already chosen the vectors
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def assembly(text: str, chosen: Target) -> str:
    """Machine code of `text` as assembly, for people to read."""
    with _lock:
        return str(target_machine(chosen).emit_assembly(optimise(text, chosen)))


def object_code(content: str, generate: Callable[[], str], chosen: Target, cache: Path | None) -> bytes:
    """Object file of the LLVM module that `generate` gives, from `cache` (a folder) when it holds a sound copy.

    `content` stands for the module: equal content means an equal module. A corrupt or foreign entry is rebuilt; a cache
    that cannot be written is not an error.
    """
    parts = (_versions(), chosen.triple, chosen.cpu, chosen.features, content)
    key = hashlib.sha256(b"\0".join(part.encode() for part in parts)).hexdigest()
    path = None if cache is None else cache / f"{key}.o"
    if path is not None:
        stored = read_entry(path)
        if stored is not None:
            return stored
    with _lock:
        code = bytes(target_machine(chosen).emit_object(optimise(generate(), chosen)))
    if path is not None:
        write_entry(path, code)
    return code


def load(code: bytes, symbols: tuple[str, ...]) -> dict[str, int]:
    """Addresses of `symbols` of the object file `code`, linked into this process for good."""
    from zellige.backends.cpu.linker import link  # late: who only runs on a device needs none of it

    linked = link(code, symbols)
    if linked is not None:
        return linked
    import llvmlite.binding as llvm

    with _lock:
        jit = _jit()
        library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for symbol in symbols:
            library.export_symbol(symbol)
        tracker = library.link(jit, f"zellige-{next(_names)}")
        _keep_alive.append(tracker)
        return {symbol: int(tracker[symbol]) for symbol in symbols}


@functools.cache
def _jit() -> Any:
    import llvmlite.binding as llvm

    initialize_llvm()
    return llvm.create_lljit_compiler()


@functools.cache
def _versions() -> str:
    """What makes code of equal content differ: LLVM's version and the source of all that makes code of it."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for source in sorted(folder.glob("*.py")):
            digest.update(source.read_bytes())
    return f"{FORMAT} {host().llvm} {digest.hexdigest()}"
