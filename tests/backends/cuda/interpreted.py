"""Differential testing of the lowering without a GPU: generated Triton source in Triton's interpreter against ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zellige.backends.cuda.lowering import Lowered, lower
from zellige.backends.cuda.options import Options
from zellige.backends.reference.launch import run
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.ir.walk import specialise
from zellige.runtime.kernel import Kernel

_TORCH_NAMES = {
    "bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64", "i1": "bool",
    "fp8e4nv": "float8_e4m3fn", "fp8e5": "float8_e5m2",
}  # fmt: skip


def function_of(kernel: Kernel, dtypes: Mapping[str, DType] | None = None, **statics: Any) -> Function:
    """A kernel's IR, unverified, with some static parameters changed; dtype variables that are not named are the first they may be."""
    first = {name: variable.allowed[0] for name, variable in kernel.signature.dtype_vars.items()}
    return kernel.lower({**kernel.signature.statics, **statics}, {**first, **(dtypes or {})})


@dataclass(frozen=True)
class Case:
    """A launch to be run both ways."""

    function: Function
    dims: Mapping[str, int]
    arrays: Mapping[str, np.ndarray[Any, Any]]
    scalars: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, int] | None = None
    """Dims fixed at compile time (default: all)."""
    options: Options = field(default_factory=Options)


def compare(
    function: Function,
    dims: Mapping[str, int],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    scalars: Mapping[str, Any] | None = None,
    *,
    fixed: Mapping[str, int] | None = None,
    options: Options | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> dict[str, np.ndarray[Any, Any]]:
    """Runs ``function`` both ways and checks that written arrays agree; returns those of the reference."""
    case = Case(function, dims, arrays, scalars or {}, fixed, options or Options())
    return compare_all([case], rtol=rtol, atol=atol)[0]


def compare_all(
    cases: Sequence[Case], *, rtol: float = 0.0, atol: float = 0.0
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """``compare`` of many launches in one process."""
    lowered = [lower(specialise(c.function, c.dims if c.fixed is None else c.fixed), c.options) for c in cases]
    arguments = [_arguments(one, case) for one, case in zip(lowered, cases, strict=True)]
    jobs = [
        (one.text, one.name, given, _programs(one, case))
        for one, case, (given, _) in zip(lowered, cases, arguments, strict=True)
    ]
    worker = Path(__file__).with_name("run_interpreted.py")
    done = subprocess.run([sys.executable, str(worker)], input=pickle.dumps(jobs), capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr.decode()}\n{lowered[0].text if len(cases) == 1 else ''}"
    made = []
    for one, case, (_, names), after in zip(lowered, cases, arguments, pickle.loads(done.stdout), strict=True):
        made.append(_checked(case, dict(zip(names, after, strict=True)), one.text, rtol, atol))
    return made


def _programs(lowered: Lowered, case: Case) -> int:
    programs = lowered.programs.evaluate(case.dims)
    return min(programs, 3) if case.options.persistent else programs


def _arguments(lowered: Lowered, case: Case) -> tuple[list[Any], list[str]]:
    """Arguments as the other process takes them, and the names of the arrays among them."""
    arguments: list[Any] = []
    names: list[str] = []
    for parameter in lowered.parameters:
        match parameter.kind:
            case "array":
                element = parameter.type.removeprefix("*")
                held, start = _room(case, parameter.name), case.function.array(parameter.name).init
                held = held if start is None else np.full_like(held, start)  # the launch clears it
                arguments.append((_torch_name(element), np.ascontiguousarray(held).tobytes()))
                names.append(parameter.name)
            case "scalar":
                arguments.append(case.scalars[parameter.name])
            case "dim":
                arguments.append(case.dims[parameter.name])
            case "flag":
                arguments.append(("int32", bytes(64)))
                names.append("guard_flag")
    return arguments, names


def _checked(
    case: Case, found: Mapping[str, bytes], text: str, rtol: float, atol: float
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of the reference. AssertionError if others were found."""
    expected = {name: a.copy() for name, a in case.arrays.items()}
    failed = run(case.function, case.dims, expected, case.scalars, check=False).guards
    for param in case.function.arrays:
        before = case.arrays[param.name]
        room, want = _room(case, param.name), expected[param.name]
        begin = before.__array_interface__["data"][0] - room.__array_interface__["data"][0]
        got: Any = np.ndarray(before.shape, before.dtype, found[param.name], begin, before.strides)
        message = f"{param.name}, dims {dict(case.dims)}\n{case.function.source}\n{text}"
        if param.role is Role.IN:
            assert found[param.name] == room.tobytes(), f"an input was changed: {message}"
        elif np.issubdtype(got.dtype, np.integer):
            np.testing.assert_array_equal(got, want, err_msg=message)
        else:
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=atol, err_msg=message
            )
    expected["guard_flag"] = np.frombuffer(found.get("guard_flag", bytes(64)), np.int32)
    assert bool(failed) == bool(expected["guard_flag"][0]), f"guards differ\n{case.function.source}\n{text}"
    return expected


def _room(case: Case, name: str) -> np.ndarray[Any, Any]:
    """What an array lies in: something larger if the options say that it has gaps."""
    array = case.arrays[name]
    base = array.base if name in case.options.layouts else np.ascontiguousarray(array)
    assert base is not None
    return base


def _torch_name(element: str) -> str:
    if element in _TORCH_NAMES:
        return _TORCH_NAMES[element]
    return {"i": "int", "u": "uint"}[element[0]] + element[1:]
