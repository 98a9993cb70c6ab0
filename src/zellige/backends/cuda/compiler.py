"""Compiles a kernel for an explicit GPU target, on a machine with or without a GPU, and remembers the result on disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zellige.backends.cuda.grouped_products import refused
from zellige.backends.cuda.lowering import Lowered, lower
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.parameters import Parameter
from zellige.backends.cuda.warp_groups import WARPS, block_registers
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import Function
from zellige.ir.walk import specialise

FORMAT = 1
"""Raised when what the lowering or this file writes changes meaning, so that older cache entries are not used."""

SHARED_LIMITS = {"sm_80": 163 << 10, "sm_89": 99 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "sm_120": 99 << 10}
"""Bytes of shared memory that a block may use (CUDA C++ Programming Guide, technical specifications)."""


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """Machine code of one kernel and all that a launch needs to know."""

    name: str
    """Of the symbol in the cubin."""
    target: str
    cubin: bytes
    source: str
    """The Triton source that it was compiled from."""
    ptx: str
    parameters: tuple[Parameter, ...]
    programs: Extent
    """Tiles of the grid, over the dims that are parameters."""
    guards: tuple[str, ...]
    options: Options
    num_warps: int
    """Warps that the launch starts; more than asked for if warps are specialised."""
    shared_bytes: int
    scratch_bytes: int
    """Global scratch memory per program (for tensor descriptors made in the kernel)."""
    registers: int
    spilled_bytes: int
    """Local memory per thread."""

    @property
    def holds(self) -> bool:
        """Whether a launch, which must be made, lets the next one start only once all before it have ended."""
        return self.options.pdl and self.options.holds and bool(self.programs.constant)

    def metadata(self) -> dict[str, Any]:
        """Everything but code and texts, JSON-ready."""
        return {
            "name": self.name,
            "target": self.target,
            "parameters": [asdict(p) for p in self.parameters],
            "programs": extent_to_json(self.programs),
            "guards": list(self.guards),
            "options": self.options.as_json(),
            "num_warps": self.num_warps,
            "shared_bytes": self.shared_bytes,
            "scratch_bytes": self.scratch_bytes,
            "registers": self.registers,
            "spilled_bytes": self.spilled_bytes,
        }

    def save(self, folder: Path) -> None:
        """Writes ``kernel.cubin``, its ``kernel.sha256``, ``kernel.json``, ``kernel.py`` and ``kernel.ptx`` into a new folder, all or
        nothing. OSError if it cannot be written."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            made = Path(beside) / "entry"
            made.mkdir()
            (made / "kernel.cubin").write_bytes(self.cubin)
            (made / "kernel.sha256").write_text(hashlib.sha256(self.cubin).hexdigest())
            (made / "kernel.py").write_text(self.source)
            (made / "kernel.ptx").write_text(self.ptx)
            (made / "kernel.json").write_text(json.dumps(self.metadata(), indent=1))
            try:
                made.rename(folder)
            except OSError:
                if not (folder / "kernel.json").exists():  # else another process was faster, with the same content
                    raise

    @classmethod
    def load(cls, folder: Path) -> CompiledKernel:
        """Reads what ``save`` wrote. OSError or ValueError if it is not all there, or not what was written."""
        try:
            data = json.loads((folder / "kernel.json").read_text("utf-8"))
            cubin = (folder / "kernel.cubin").read_bytes()
            if (folder / "kernel.sha256").read_text() != hashlib.sha256(cubin).hexdigest():
                raise ValueError("kernel.cubin is not what was written")
            data["parameters"] = tuple(Parameter(**p) for p in data["parameters"])
            data["programs"] = extent_from_json(data["programs"])
            data["guards"] = tuple(data["guards"])
            data["options"] = Options.from_json(data["options"])
            source, ptx = ((folder / name).read_text() for name in ("kernel.py", "kernel.ptx"))
            return cls(cubin=cubin, source=source, ptx=ptx, **data)
        except (TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"kernel.json is not what was written: {error}") from error


def compile(
    function: Function,
    dims: Mapping[str, int],
    target: str = "sm_90",
    options: Options | None = None,
    cache: Path | None = None,
) -> CompiledKernel:
    """Compiles ``function`` with ``dims`` fixed; the other dims stay parameters. Needs ``triton``, but no GPU.

    ``cache``: a folder of compiled kernels, by content; looked at first, added to. None: compile anew.

    Raises ZelligeError ZL0901 (a tile extent is not fixed), ZL0902 (an operation that GPU tiles lack), ZL0904 (no
    Triton), ZL0905 (Triton refuses the kernel, such as for too much shared memory), ZL0909 (``consumers`` do not suit it).
    """
    options = options or Options()
    if options.consumers and target != "sm_90":
        raise refused(function, f"{target} has other matrix instructions than sm_90")
    return compile_lowered(lower(specialise(function, dims), options), target, options, cache)


def compile_lowered(lowered: Lowered, target: str, options: Options, cache: Path | None) -> CompiledKernel:
    """Compiles what a lowering wrote; as ``compile``."""
    key = _key(lowered, target, options)
    if cache is None:
        return _compile(lowered, target, options, key)
    folder = cache / key[:2] / key
    if (folder / "kernel.json").exists():
        with contextlib.suppress(OSError, ValueError):
            return CompiledKernel.load(folder)
        shutil.rmtree(folder, ignore_errors=True)  # damaged: made again
    made = _compile(lowered, target, options, key)
    with contextlib.suppress(OSError):  # read-only or full: made again next time
        made.save(folder)
    return made


def _key(lowered: Lowered, target: str, options: Options) -> str:
    triton = _triton()
    content = [
        FORMAT, triton.__version__, target, options.as_json(), lowered.text, [asdict(p) for p in lowered.parameters],
        lowered.guards, extent_to_json(lowered.programs),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _triton() -> Any:
    try:
        import triton
    except ImportError as error:
        raise ZelligeError(
            "ZL0904", "compiling for a GPU needs the package 'triton', which is not installed",
            help="pip install 'zellige[cuda]'", facts={"cause": str(error)},
        ) from error  # fmt: skip
    return triton


def _compile(lowered: Lowered, target: str, options: Options, key: str) -> CompiledKernel:
    triton = _triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    capability = int(target.removeprefix("sm_"))
    with tempfile.TemporaryDirectory() as folder:
        module = _import(lowered.text, Path(folder) / f"zellige_{key[:16]}.py")
        written = getattr(module, lowered.name)
        source = (GluonASTSource if options.consumers else ASTSource)(
            written,
            {name: p.type for name, p in zip(written.arg_names, lowered.parameters, strict=True)},
            attrs={(i,): [["tt.divisibility", 16]] for i, p in enumerate(lowered.parameters) if p.multiple % 16 == 0},
        )
        settings: dict[str, Any] = {
            "num_warps": options.num_warps,
            "num_stages": options.num_stages,
            "launch_pdl": options.pdl,
        }
        if options.max_registers is not None:
            settings["maxnreg"] = options.max_registers
        if options.consumers:
            settings |= {"num_warps": WARPS, "maxnreg": block_registers(options)}
        try:
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=settings)
        except Exception as error:
            raise ZelligeError(
                "ZL0905", f"Triton refuses the kernel '{lowered.name}' for {target}: {error}",
                facts={"options": options.as_json()}, help="try smaller tiles or fewer stages",
            ) from error  # fmt: skip
        cubin = made.asm["cubin"]
        registers, spilled = _resources(cubin, lowered.name)
    metadata = made.metadata
    limit = SHARED_LIMITS.get(target)
    if limit is not None and metadata.shared > limit:
        raise ZelligeError(
            "ZL0905", f"'{lowered.name}' needs {metadata.shared} bytes of shared memory; a block of {target} has {limit}",
            facts={"shared bytes": metadata.shared, "options": options.as_json()}, help="use smaller tiles or fewer stages",
        )  # fmt: skip
    return CompiledKernel(
        name=lowered.name, target=target, cubin=cubin, source=lowered.text, ptx=made.asm["ptx"],
        parameters=lowered.parameters, programs=lowered.programs, guards=lowered.guards, options=options,
        num_warps=_launched_warps(made.asm["ptx"], metadata.num_warps), shared_bytes=metadata.shared,
        scratch_bytes=metadata.global_scratch_size, registers=registers, spilled_bytes=spilled,
    )  # fmt: skip


def _launched_warps(ptx: str, asked: int) -> int:
    """Warps of a block: what the code requires, which warp specialisation raises above what was asked for."""
    found = re.search(r"\.reqntid (\d+)", ptx)
    return int(found.group(1)) // 32 if found else asked


def _import(text: str, path: Path) -> Any:
    """A module from source text; Triton reads kernels from files."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


def _resources(cubin: bytes, name: str) -> tuple[int, int]:
    """Registers and bytes of local memory per thread."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        report = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = re.search(rf"Function {re.escape(name)}:\s*REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", report)
    if found is None:
        raise ZelligeError("ZL0905", f"the resource report of '{name}' is unreadable", facts={"report": report[:500]})
    return int(found.group(1)), max(int(found.group(2)), int(found.group(3)))


def extent_to_json(extent: Extent) -> Any:
    """A dim expression as nested lists."""
    match extent:
        case Const(value):
            return value
        case Dim(name):
            return name
        case Nary(op, terms):
            return [op, *map(extent_to_json, terms)]
        case Quotient(op, left, right):
            return [op, extent_to_json(left), extent_to_json(right)]
    raise TypeError(extent)


def extent_from_json(data: Any) -> Extent:
    """What ``extent_to_json`` wrote."""
    if isinstance(data, int):
        return Const(data)
    if isinstance(data, str):
        return Dim(data)
    op, *terms = data
    parts = tuple(map(extent_from_json, terms))
    return Nary(op, parts) if op in ("add", "mul", "min", "max") else Quotient(op, *parts)
