"""The peer of formats.py: ggml's matrix × vector product over the same packed weights, in a process of its own.

Started by formats.py with the Python of a llama-cpp-python installation: reads jobs from standard input (JSON: path of the
packed rows, ggml's type number, size, threads, copies of the weights, products), then computes once for each empty line and
answers in seconds.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np


class _Parameters(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """ggml's core and its CPU backend, as the package brings them."""
    package = importlib.util.find_spec("llama_cpp")
    assert package is not None and package.origin is not None
    folder = Path(package.origin).parent / "lib"
    base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    base.ggml_init.argtypes, base.ggml_init.restype = [_Parameters], pointer
    base.ggml_new_tensor_2d.argtypes, base.ggml_new_tensor_2d.restype = [pointer, ctypes.c_int, number, number], pointer
    base.ggml_mul_mat.argtypes, base.ggml_mul_mat.restype = [pointer] * 3, pointer
    base.ggml_get_data.argtypes, base.ggml_get_data.restype = [pointer], pointer
    base.ggml_new_graph.argtypes, base.ggml_new_graph.restype = [pointer], pointer
    base.ggml_build_forward_expand.argtypes = [pointer, pointer]
    base.ggml_free.argtypes = [pointer]
    cpu.ggml_graph_compute_with_ctx.argtypes = [pointer, pointer, ctypes.c_int]
    return base, cpu


def main() -> None:
    base, cpu = libraries()
    cpu.ggml_cpu_init()
    context = None
    for line in sys.stdin:
        if line.strip():
            job = json.loads(line)
            if context is not None:
                base.ggml_free(context)
            packed, size = np.load(job["path"]), job["size"]
            room = job["copies"] * (packed.nbytes + 4096) + job["launches"] * (4 * size + 4096) + (512 << 20)
            context = base.ggml_init(_Parameters(room, None, False))
            x = base.ggml_new_tensor_2d(context, 0, size, 1)
            ctypes.memmove(base.ggml_get_data(x), np.ones(size, np.float32).ctypes.data, 4 * size)
            graph = base.ggml_new_graph(context)
            weights = [base.ggml_new_tensor_2d(context, job["type"], size, size) for _ in range(job["copies"])]
            for w in weights:
                ctypes.memmove(base.ggml_get_data(w), packed.ctypes.data, packed.nbytes)
            for i in range(job["launches"]):
                product = base.ggml_mul_mat(context, weights[i % len(weights)], x)
                base.ggml_build_forward_expand(graph, product)
        start = time.perf_counter()
        cpu.ggml_graph_compute_with_ctx(context, graph, job["threads"])
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
