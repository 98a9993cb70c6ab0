"""Differential testing of the lowering without a GPU: generated Triton source in Triton's interpreter against ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.reference.launch import run
from zellige.ir.dtypes import DType, bf16
from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.ir.walk import specialise
from zellige.runtime.kernel import Kernel

_TORCH_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64", "i1": "bool"}


DEFAULTS = {"KV": bf16}
"""Dtypes of dtype variables that a test does not name: keys and values of a cache."""


def function_of(kernel: Kernel, dtypes: Mapping[str, DType] | None = None, **statics: Any) -> Function:
    """A kernel's IR, unverified, with some static parameters changed."""
    return kernel.lower({**kernel.signature.statics, **statics}, {**DEFAULTS, **(dtypes or {})})


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
    """Runs ``function`` both ways and checks that written arrays agree; returns those of the reference.

    ``fixed``: dims fixed at compile time (default: all)."""
    scalars = scalars or {}
    options = options or Options()
    expected = {name: a.copy() for name, a in arrays.items()}
    run(function, dims, expected, scalars)
    lowered = lower(specialise(function, dims if fixed is None else fixed), options)
    programs = lowered.programs.evaluate(dims)
    if options.persistent:
        programs = min(programs, 3)
    arguments: list[Any] = []
    names: list[str] = []
    for parameter in lowered.parameters:
        match parameter.kind:
            case "array":
                element = parameter.type.removeprefix("*")
                arguments.append((_torch_name(element), np.ascontiguousarray(arrays[parameter.name]).tobytes()))
                names.append(parameter.name)
            case "scalar":
                arguments.append(scalars[parameter.name])
            case "dim":
                arguments.append(dims[parameter.name])
            case "flag":
                arguments.append(("int32", bytes(64)))
                names.append("guard_flag")
    job = (lowered.text, lowered.name, arguments, programs)
    worker = Path(__file__).with_name("run_interpreted.py")
    done = subprocess.run([sys.executable, str(worker)], input=pickle.dumps([job]), capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stderr.decode()}\n{lowered.text}"
    found = dict(zip(names, pickle.loads(done.stdout)[0], strict=True))
    for param in function.arrays:
        got = np.frombuffer(found[param.name], arrays[param.name].dtype).reshape(arrays[param.name].shape)
        if param.role is Role.IN:
            assert got.tobytes() == arrays[param.name].tobytes(), f"{param.name} is an input but was changed"
            continue
        want = expected[param.name]
        if np.issubdtype(got.dtype, np.integer):
            np.testing.assert_array_equal(got, want, err_msg=f"{param.name}\n{lowered.text}")
        else:
            np.testing.assert_allclose(
                got.astype(np.float64),
                want.astype(np.float64),
                rtol=rtol,
                atol=atol,
                err_msg=f"{param.name}\n{lowered.text}",
            )
    expected["guard_flag"] = np.frombuffer(found.get("guard_flag", bytes(64)), np.int32)
    return expected


def _torch_name(element: str) -> str:
    if element in _TORCH_NAMES:
        return _TORCH_NAMES[element]
    return {"i": "int", "u": "uint"}[element[0]] + element[1:]
