"""One kernel, as a command line names it, with its static parameters and dtypes chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from zellige.cli.audit import library
from zellige.cli.kernel_files import kernels_in, load
from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import ALL, DType
from zellige.ir.ops import Function
from zellige.runtime.kernel import Kernel

_F = TypeVar("_F", bound=Callable[..., Any])

KERNEL_HELP = """\b
    KERNEL is one of
      file.py:name       a kernel in a file (file.py alone, if it has only one)
      module:name        a kernel in an importable module
      name               a kernel of the library, such as rms_norm or gpu_elementwise.rms_norm
"""


@dataclass(frozen=True)
class Choice:
    """A kernel with everything fixed that it is verified for."""

    kernel: Kernel
    statics: dict[str, Any]
    dtypes: dict[str, DType]

    def lower(self) -> Function:
        """Its IR. LanguageError (ZL01xx) if it is not a program of the language."""
        return self.kernel.lower(self.statics, self.dtypes)


def kernel_options(function: _F) -> _F:
    """Adds KERNEL, --static and --dtype; ``choose`` reads them."""
    for option in (
        click.option("--dtype", "dtypes", multiple=True, metavar="W=TYPE", help="Choose a dtype variable."),
        click.option("--static", "statics", multiple=True, metavar="BM=64", help="Choose a static parameter."),
        click.argument("kernel"),
    ):
        function = option(function)
    return function


def choose(name: str, statics: Iterable[str], dtypes: Iterable[str]) -> Choice:
    """The kernel called ``name`` with its first config (or its defaults) and first dtypes, where nothing is said.

    ZelligeError ZL0131 (no such kernel), ZL0132 (a static parameter or dtype that it does not take)."""
    kernel = find(name)
    signature = kernel.signature
    chosen = {**signature.statics, **(kernel.configs[0] if kernel.configs else {})}
    chosen |= pairs(statics, "--static", chosen, _static)
    for static, value in chosen.items():
        if isinstance(value, type):
            raise _wrong(f"static parameter '{static}' of '{kernel.name}' has no default", f"--static {static}=64")
    bound = {v: variable.allowed[0] for v, variable in signature.dtype_vars.items()}
    for variable, dtype in pairs(dtypes, "--dtype", bound, _dtype).items():
        allowed = signature.dtype_vars[variable].allowed
        if dtype not in allowed:
            raise _wrong(
                f"dtype {variable} of '{kernel.name}' cannot be {dtype}", f"one of {', '.join(map(str, allowed))}"
            )
        bound[variable] = dtype
    return Choice(kernel, chosen, bound)


def find(name: str) -> Kernel:
    """The kernel that a command line names. ZelligeError ZL0131 if there is none, ZL0130 if its file cannot be loaded."""
    place, separator, own = name.rpartition(":")
    if not separator and name.endswith(".py"):
        place, own = name, ""
    if not place:
        # a name that both devices have means the CPU's kernel; gpu_elementwise.rms_norm means the other
        candidates = sorted(library(), key=lambda k: "gpu_" in k.__module__)
        module, _, own = own.rpartition(".")
        candidates = [k for k in candidates if not module or k.__module__.rsplit(".", 1)[-1] == module]
        where = f"the library's module '{module}'" if module else "the library"
    elif place.endswith(".py"):
        candidates, where = kernels_in(load(Path(place))), place
    else:
        try:
            candidates, where = kernels_in(importlib.import_module(place)), f"module {place}"
        except ZelligeError:
            raise
        except Exception as error:  # the user's module may raise anything; it is told, not swallowed
            what = f"module {place} cannot be imported: {type(error).__name__}: {error}"
            raise ZelligeError("ZL0130", what, help="a file is named file.py:kernel") from error
    if not own and len(candidates) == 1:
        return candidates[0]
    for kernel in candidates:
        if kernel.name == own:
            return kernel
    names = list(dict.fromkeys(k.name for k in candidates))
    near = get_close_matches(own, names, 3)
    has = ", ".join(near or names[:12]) or "no kernels"
    message = f"there is no kernel '{own}' in {where}" if own else f"{where} has {len(names)} kernels"
    hint = (
        "a kernel of a file is named file.py:name, one of a module module:name"
        if not place
        else f"name one: {place}:NAME"
    )
    raise ZelligeError("ZL0131", message, facts={"did you mean" if near else "it has": has}, help=hint)


def pairs(
    given: Iterable[str], option: str, known: Iterable[str] | None, read: Callable[[str, str], Any]
) -> dict[str, Any]:
    """``NAME=VALUE`` arguments, also several with commas between. ZelligeError ZL0132 if one is not, or not ``known``."""
    found = {}
    for item in (part.strip() for text in given for part in text.split(",")):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise _wrong(f"{option} {item} is not NAME=VALUE", f"{option} M=5")
        if known is not None and name not in (names := sorted(known)):
            raise _wrong(f"{option} {name}: the kernel has no such name", f"it has {', '.join(names) or 'none'}")
        found[name] = read(name, value)
    return found


def read_size(name: str, value: str) -> int:
    """The value of a dim. ZelligeError ZL0132 unless it is a whole number of at least 0."""
    if not value.isdecimal() or int(value) >= 1 << 31:
        raise _wrong(f"dim {name} is {value}, not a whole number below 2³¹", f"{name}=64")
    return int(value)


def _static(name: str, value: str) -> Any:
    if value in ("True", "False", "true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return ALL.get(value, value)


def _dtype(name: str, value: str) -> DType:
    if value not in ALL:
        raise _wrong(f"there is no dtype '{value}'", f"one of {', '.join(ALL)}")
    return ALL[value]


def _wrong(message: str, help: str) -> ZelligeError:
    return ZelligeError("ZL0132", message, help=help)
