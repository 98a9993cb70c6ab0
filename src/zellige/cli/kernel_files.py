"""Finds the kernels in files and folders, and verifies them with all their static parameters and dtypes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from zellige.diagnostics import ZelligeError
from zellige.diagnostics.findings import Finding
from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir.ops import Function
from zellige.runtime.kernel import Kernel
from zellige.verify import Verdict

Verify = Callable[[Function], Verdict]


@dataclass(frozen=True)
class Checked:
    """A kernel with one choice of static parameters and dtypes, and what came of it."""

    name: str
    file: str
    line: int
    variant: str
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        verdict = self.verdict
        return {
            "name": self.name, "file": self.file, "line": self.line, "variant": self.variant, "proved": verdict.proved,
            "obligations": len(verdict.records), "how": verdict.how(), "seconds": round(verdict.seconds, 6),
            "unsafe": len(verdict.unsafe), "findings": [f.as_dict() for f in verdict.findings],
        }  # fmt: skip


def python_files(path: Path) -> list[Path]:
    """A file, or all Python files below a folder, in order. ZelligeError ZL0130 if there is no such path."""
    if path.is_dir():
        return sorted(
            p for p in path.rglob("*.py") if not any(part.startswith(".") for part in p.parts[len(path.parts) :])
        )
    if not path.is_file():
        raise ZelligeError("ZL0130", f"there is no file or folder {path}")
    return [path]


def load(path: Path) -> ModuleType:
    """Imports a file, as part of its package if it is in one. ZelligeError ZL0130 if that fails, at the line that did."""
    names, root = [path.stem], path.resolve().parent
    while (root / "__init__.py").exists():
        names.insert(0, root.name)
        root = root.parent
    if names[-1] == "__init__":
        names.pop()
    name = ".".join(names)
    try:
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))  # where Python itself would look for what the file imports
        if len(names) > 1:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ZelligeError("ZL0130", f"{path} is not a Python file", help="give .py files, or a folder of them")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        spec.loader.exec_module(module)
        return module
    except ZelligeError:
        raise
    except (Exception, SystemExit) as error:  # the user's file may raise anything; it is told, not swallowed
        raise ZelligeError(
            "ZL0130", f"{path} cannot be imported: {type(error).__name__}: {error}", span=_blame(path, error)
        ) from error


def _blame(path: Path, error: BaseException) -> Span:
    if isinstance(error, SyntaxError) and error.lineno:
        column = max((error.offset or 1) - 1, 0)
        return Span(error.filename or str(path), error.lineno, column, error.lineno, column + 1)
    inside = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename) == path.resolve() or f.filename == str(path)
    ]
    line = (inside[-1].lineno if inside else None) or 1
    return Span(str(path), line, 0, line, 1 << 16)


def kernels_in(module: ModuleType) -> list[Kernel]:
    """The kernels that a module defines, in the order of their definition."""
    return [v for v in vars(module).values() if isinstance(v, Kernel) and v.__module__ == module.__name__]


def check_kernel(kernel: Kernel, verify: Verify) -> Iterator[Checked]:
    """The verdict for every variant of a kernel. What is not a program of the language is a finding, too."""
    code = kernel.function.__code__
    place = (kernel.name, code.co_filename, code.co_firstlineno)
    try:
        for statics, bindings in kernel.variants():
            values = {**statics, **{name: dtype.name for name, dtype in bindings.items()}}
            variant = ", ".join(f"{name}={value}" for name, value in values.items())
            yield Checked(*place, variant, verify(kernel.lower(statics, bindings)))
    except ZelligeError as error:
        yield Checked(*place, "", refusal(kernel.name, error))


def refusal(name: str, error: ZelligeError) -> Verdict:
    """An error as a verdict."""
    finding = Finding(
        error.code,
        error.message,
        error.span or NOWHERE,
        "",
        (),
        {k: str(v) for k, v in error.facts.items()},
        "",
        error.help or "",
    )
    return Verdict(name, (finding,), ())
