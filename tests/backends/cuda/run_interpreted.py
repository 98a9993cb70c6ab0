"""Runs generated Triton kernels in Triton's own interpreter: a process of its own, since that is a mode of the whole package.

Reads a pickled list of jobs (source text, kernel name, arguments, programs) from standard input, writes the arrays after
each. Arrays arrive as (Triton type, bytes), a table of 64-bit words as ("table", words, arrays), where a word ("at", k) stands for
the address of array k; every array is surrounded by a guard zone that must stay as it was.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import importlib.util
import pickle
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter

ZONE = 256
FILL = 0xA5


class HostArray:
    """The little of a PyTorch tensor that Triton's interpreter asks for, over host memory."""

    def __init__(self, kind: str, data: bytes) -> None:
        room = np.full(len(data) + 2 * ZONE + 64, FILL, np.uint8)
        start = -room.ctypes.data % 64 + ZONE
        self.room, self.start, self.size_bytes = room, start, len(data)
        room[start : start + len(data)] = np.frombuffer(data, np.uint8)
        self.dtype = kind

    def data_ptr(self) -> int:
        return self.room.ctypes.data + self.start

    def untyped_storage(self) -> HostArray:
        return self

    def cpu(self) -> HostArray:
        return self

    def new_empty(self, *_: Any, **__: Any) -> HostArray:
        made = HostArray.__new__(HostArray)
        made.dtype = self.dtype
        return made

    def set_(self, other: HostArray, *_: Any) -> None:
        self.room, self.start, self.size_bytes = other.room, other.start, other.size_bytes

    def copy_(self, other: HostArray) -> None:
        assert other.room is self.room

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return ()

    def stride(self) -> tuple[int, ...]:
        return ()

    def contents(self) -> bytes:
        """The bytes; AssertionError if the kernel wrote outside."""
        end = self.start + self.size_bytes
        outside = np.concatenate([self.room[: self.start], self.room[end:]])
        assert (outside == FILL).all(), "the kernel wrote outside an array"
        return self.room[self.start : end].tobytes()


class _IntMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, int)

    def __call__(cls, value: Any = 0) -> int:
        return int(value.item() if isinstance(value, np.ndarray) else value)


class _Int(metaclass=_IntMeta):
    """``int`` that takes arrays of one element, as Triton's interpreter expects and recent NumPy refuses."""


interpreter.int = _Int


def _wide(handle: Any) -> Any:
    """A tile's numbers; bf16 ones, which the interpreter keeps as bits, as float32."""
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data


def _create_dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
    """a·b + d; the interpreter's own multiplies the bits of bf16 numbers as integers."""
    product = np.matmul(_wide(a), _wide(b), dtype=d.data.dtype)
    return interpreter.TensorHandle(product + d.data, d.dtype.scalar)


interpreter.InterpreterBuilder.create_dot = _create_dot


_LOOP = re.compile(r"^( *)for (\w+) in tl\.range\(.*\):$", re.MULTILINE)
"""Heads of loops: the interpreter's loop variables are Python numbers, which have no ``.to``."""


def prepared(arguments: list[Any]) -> tuple[list[Any], list[HostArray]]:
    """The arguments of a call, and the arrays whose contents are wanted after it."""
    values: list[Any] = []
    shown: list[HostArray] = []
    for argument in arguments:
        match argument:
            case ("table", words, arrays):
                held = [HostArray(*a) for a in arrays]
                numbers = [held[w[1]].data_ptr() if isinstance(w, tuple) else w for w in words]
                values.append(HostArray("int64", np.array(numbers, np.int64).tobytes()))
                shown += held
            case tuple():
                values.append(HostArray(*argument))
                shown.append(values[-1])
            case _:
                values.append(argument)
    return values, shown


def main() -> None:
    jobs = pickle.load(sys.stdin.buffer)
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (text, name, arguments, programs) in enumerate(jobs):
            path = Path(folder) / f"kernel_{number}.py"
            path.write_text(_LOOP.sub(r"\g<0>\n\1    \2 = tl.full((), \2, tl.int32)", text))
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)
            values, shown = prepared(arguments)
            getattr(module, name)[(programs,)](*values)
            done.append([array.contents() for array in shown])
    sys.stdout.buffer.write(pickle.dumps(done))


if __name__ == "__main__":
    main()
