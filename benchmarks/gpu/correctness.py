"""Every GPU kernel at awkward sizes against the reference interpreter, and what single-threaded meaning needs on a GPU.

    python benchmarks/gpu/correctness.py                         on a machine with a GPU (about a minute)
    python benchmarks/gpu/sanitize.py                            the same under compute-sanitizer
    python benchmarks/gpu/correctness.py --compile-only          fills the kernel cache on a machine without a GPU

Outputs are poisoned before each run. Inputs are drawn anew each time; the seed is printed and can be given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from checks import Array, Check, attention_checks, checks

import zellige as zl
from zellige import f32, u32
from zellige.backends.cuda.compiler import CompiledKernel, compile
from zellige.backends.cuda.options import Options
from zellige.backends.reference.launch import run
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, ContractKind, Role
from zellige.kernels import (
    gpu_attention,
    gpu_elementwise,
    gpu_linear,
)
from zellige.runtime.cuda.device import Device, open_device
from zellige.runtime.cuda.graph import LaunchGraph
from zellige.runtime.cuda.launch import Launch, LoadedKernel
from zellige.runtime.cuda.memory import Block
from zellige.runtime.cuda.staging import Staging
from zellige.runtime.paths import cache_dir
from zellige.runtime.tensor import numpy_dtype

N, M = zl.dims("N M")


class Machine:
    """Device memory and kernels for the checks."""

    def __init__(self, seed: int) -> None:
        self.device: Device = open_device()
        self.stream = self.device.stream()
        self.queue = self.device.order.join(self.stream)
        self.staging = Staging(self.device, self.stream)
        self.random = np.random.default_rng(seed)

    def upload(self, arrays: Mapping[str, Array]) -> dict[str, Block]:
        """Copies of arrays. An update of 8 bits swaps a word of 16, so that the byte behind an odd number of them is set, too: what
        initcheck then reports is an error."""
        blocks = {}
        for name, array in arrays.items():
            content = np.zeros(array.nbytes + array.nbytes % 2, np.uint8)
            content[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            blocks[name] = self.device.allocator.allocate(max(content.nbytes, 1), self.queue)
            self.staging.upload(content, blocks[name])
        return blocks

    def download(self, blocks: Mapping[str, Block], like: Mapping[str, Array]) -> dict[str, Array]:
        made = {name: np.empty_like(array) for name, array in like.items()}
        for name, array in made.items():
            self.staging.download(blocks[name], array)
        return made

    def load(self, function: Function, dims: Mapping[str, int], options: Options) -> LoadedKernel:
        return LoadedKernel(compiled(function, dims, options, self.device.target), self.device)

    def draw(self, array: ArrayParam, dims: Mapping[str, int]) -> Array:
        """Contents for one argument: random for inputs, keeping the contract; poison for outputs."""
        shape, dtype = tuple(e.evaluate(dims) for e in array.shape), numpy_dtype(array.dtype)
        if array.role is Role.OUT:
            return np.full(shape, -7 if np.issubdtype(dtype, np.integer) else np.nan, dtype)
        if array.contract is None:
            if np.issubdtype(dtype, np.integer):
                return self.random.integers(-100, 100, shape).astype(dtype)
            return self.random.standard_normal(shape).astype(dtype)
        bound, count = array.contract.bound.evaluate(dims), int(np.prod(shape))
        if array.contract.kind is ContractKind.OFFSETS:
            cuts = np.sort(self.random.integers(0, bound + 1, count))
            cuts[0], cuts[-1] = 0, bound
            return cuts.astype(dtype)
        if array.contract.distinct or array.contract.kind is ContractKind.PERMUTATION:
            values = self.random.permutation(bound)[:count]
        else:
            values = self.random.integers(0, bound + (array.contract.kind is ContractKind.UP_TO), count)
        if array.contract.optional:
            values = np.where(self.random.random(count) < 0.3, -1, values)
        return values.reshape(shape).astype(dtype)


def compiled(function: Function, dims: Mapping[str, int], options: Options, target: str = "sm_90") -> CompiledKernel:
    """From the kernel cache, if it is there."""
    used = {name: size for name, size in dims.items() if name in function.dims()}
    return compile(function, used, target, options, cache_dir("cuda"))


def difference(got: Array, want: Array) -> float:
    """‖got − want‖ / ‖want‖ in float64, 0 or 1 for integers; NaN never passes."""
    if np.issubdtype(want.dtype, np.integer):
        return float((got != want).any())
    a, b = got.astype(np.float64), want.astype(np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))


def check(machine: Machine, c: Check) -> str | None:
    """Runs one check; what is wrong, or None."""
    function = c.function
    arrays = {a.name: machine.draw(a, c.dims) for a in function.arrays}
    for name in c.zero & arrays.keys():
        arrays[name][...] = 0
    for name in c.positive:
        arrays[name] = np.abs(arrays[name]) + arrays[name].dtype.type(0.1)
    for name in c.unruly:
        rows = arrays[name].reshape(-1, arrays[name].shape[-1])
        for value in (np.nan, np.inf, -np.inf):
            rows[machine.random.integers(0, len(rows), 1 + len(rows) // 500)] = value
    expected = {name: array.copy() for name, array in arrays.items()}
    run(function, c.dims, expected, c.scalars, check=False)
    kernel = machine.load(function, c.known, c.options)
    blocks = machine.upload(arrays)
    addresses = {name: block.address for name, block in blocks.items()}
    launch = kernel.prepare(machine.stream, addresses, c.scalars, c.dims)
    if launch is not None:
        launch(machine.stream)
    found = machine.download(blocks, arrays)
    for array in function.arrays:
        got, want = found[array.name], expected[array.name]
        if c.unruly:
            if (np.isfinite(got) != np.isfinite(want)).any() or (np.isnan(got) != np.isnan(want)).any():
                return f"{function.name} {c.dims} {c.statics} {c.options}: {array.name} is NaN or infinite elsewhere"
            got, want = (np.where(np.isfinite(want), x.astype(np.float32), 0) for x in (got, want))
        error = difference(got, want)
        bound = 0.0 if array.role is Role.IN else c.bound
        if not error <= bound:
            return f"{function.name} {c.dims} {c.statics} {c.options}: {array.name} is off by {error:.3g} (allowed {bound})"
    return None


@zl.kernel
def turned(*, x: zl.Mut[f32, N, M]) -> None:
    """Each row backwards, twice over, plus 1 each time: other threads' lanes are read after they were written."""
    n = zl.grid(N)
    x[n, :] = x[n, M - 1 - zl.arange(M)] + 1.0
    x[n, :] = x[n, M - 1 - zl.arange(M)] + 1.0


@zl.kernel
def slow(x: zl.In[u32, N], *, y: zl.Out[u32, N], BN: zl.Static = 1024, ROUNDS: zl.Static = 200_000) -> None:
    """Many steps of a linear congruential generator (Numerical Recipes) before anything is stored."""
    i = zl.grid(N.tiles(BN))
    value = x[i]
    for _ in range(ROUNDS):
        value = value * 1664525 + 1013904223
    y[i] = value


@zl.kernel
def successor(y: zl.In[u32, N], *, z: zl.Out[u32, N], BN: zl.Static = 1024) -> None:
    i = zl.grid(N.tiles(BN))
    z[i] = y[i] + 1


def barriers(machine: Machine) -> list[str]:
    """Stores and later loads of one array, with the barriers and without."""
    function = turned.lower({}, {})
    start = machine.random.integers(-1000, 1000, (2000, 4096)).astype(np.float32)  # sums are exact

    def wrong(kernel: LoadedKernel) -> int:
        bad = 0
        for _ in range(5):
            blocks = machine.upload({"x": start})
            launch = kernel.prepare(machine.stream, {"x": blocks["x"].address}, {}, {"N": 2000})
            assert launch is not None
            launch(machine.stream)
            bad += not np.array_equal(machine.download(blocks, {"x": start})["x"], start + 2.0)
        return bad

    options = Options(num_warps=8)
    good = wrong(machine.load(function, {"M": 4096}, options))
    with mock.patch("zellige.backends.cuda.lowering.barriers", lambda _: set()):
        without = wrong(machine.load(function, {"M": 4096}, options))
    print(f"barriers: {good} of 5 runs wrong with them, {without} of 5 without")
    return ["a program that stores and then loads is wrong"] if good else []


def dependence(machine: Machine) -> list[str]:
    """A dependent launch reads what the one before it writes, with the wait first and with the wait last.

    The first kernel lets the second one start as soon as it runs, and stores only after some 0.5 ms of arithmetic; both fit
    on the device together. So without its wait the second reads what was there before."""
    size = 32 * 1024
    start = machine.random.integers(0, 1 << 32, size, dtype=np.uint32)
    want = start
    for _ in range(200_000):
        want = want * np.uint32(1664525) + np.uint32(1013904223)
    first = machine.load(slow.lower({"BN": 1024, "ROUNDS": 200_000}, {}), {"N": size}, Options(pdl=True))
    function = successor.lower({"BN": 1024}, {})

    def wrong(second: LoadedKernel) -> int:
        bad = 0
        for _ in range(5):
            x, y, z = (machine.device.allocator.allocate(start.nbytes, machine.queue) for _ in range(3))
            machine.staging.upload(start, x)
            machine.staging.upload(np.zeros_like(start), y)
            machine.stream.sync()
            launches: list[Launch | None] = [
                first.prepare(machine.stream, {"x": x.address, "y": y.address}),
                second.prepare(machine.stream, {"y": y.address, "z": z.address}),
            ]
            LaunchGraph(machine.device, launches)(machine.stream)
            bad += not np.array_equal(machine.download({"z": z}, {"z": start})["z"], want + np.uint32(1))
        return bad

    good = wrong(machine.load(function, {"N": size}, Options(pdl=True)))
    with mock.patch("zellige.backends.cuda.lowering.Lowering._touches_shared", lambda *_: False):  # the wait comes last
        without = wrong(machine.load(function, {"N": size}, Options(pdl=True)))
    print(f"dependent launches: {good} of 5 runs wrong with the wait first, {without} of 5 with the wait last")
    return ["a dependent launch reads too early"] if good else []


@zl.kernel
def slow_in_place(*, y: zl.Mut[u32, N], BN: zl.Static = 1024, ROUNDS: zl.Static = 5000) -> None:
    """``slow``, over what it reads."""
    i = zl.grid(N.tiles(BN))
    value = y[i]
    for _ in range(ROUNDS):
        value = value * 1664525 + 1013904223
    y[i] = value


@zl.kernel
def added(y: zl.In[u32, N], *, total: zl.Mut[u32, N], BN: zl.Static = 1024) -> None:
    i = zl.grid(N.tiles(BN))
    value = y[i]
    total[i] = total[i] + value


def holding(machine: Machine) -> list[str]:
    """What a launch wrote two launches ago is read before the wait, with one in between that holds back and with one that does not.

    Forty times over, y is written slowly, one program does something else, and y is added up by programs on other multiprocessors
    than wrote it, whose first caches may have what y was before."""
    size, rounds = 32 * 1024, 40
    start = machine.random.integers(0, 1 << 32, size, dtype=np.uint32)
    factor, summand = 1, 0
    for _ in range(5000):
        factor, summand = factor * 1664525 % (1 << 32), (summand * 1664525 + 1013904223) % (1 << 32)
    value, want = start, np.zeros_like(start)
    for _ in range(rounds):
        value = value * np.uint32(factor) + np.uint32(summand)
        want = want + value
    dims, early = {"N": size}, frozenset("y")
    write = machine.load(slow_in_place.lower({"BN": 1024, "ROUNDS": 5000}, {}), dims, Options(pdl=True))

    def wrong(between: Options, reads: Options) -> int:
        one = machine.load(successor.lower({"BN": 1024}, {}), {"N": 1024}, between)
        add = machine.load(added.lower({"BN": 1024}, {}), dims, reads)
        bad = 0
        for _ in range(5):
            y, z, total = (machine.device.allocator.allocate(start.nbytes, machine.queue) for _ in range(3))
            machine.staging.upload(start, y)
            machine.staging.upload(np.zeros_like(start), total)
            machine.stream.sync()
            launches: list[Launch | None] = [
                write.prepare(machine.stream, {"y": y.address}),
                one.prepare(machine.stream, {"y": y.address, "z": z.address}),
                add.prepare(machine.stream, {"y": y.address, "total": total.address}),
            ] * rounds
            LaunchGraph(machine.device, launches)(machine.stream)
            bad += not np.array_equal(machine.download({"total": total}, {"total": start})["total"], want)
        return bad

    holds, does_not = Options(pdl=True, holds=True), Options(pdl=True)
    good = wrong(holds, Options(pdl=True, constant=early, fresh=early))
    cached, without = (
        wrong(holds, Options(pdl=True, constant=early)),
        wrong(does_not, Options(pdl=True, constant=early, fresh=early)),
    )
    print(
        f"launches that hold back: {good} of 5 runs wrong with one in between, {without} of 5 if it does not, "
        f"{cached} of 5 if the first cache is asked"
    )
    return ["what a held launch lets read is not there yet"] if good else []


def repeatable(machine: Machine) -> list[str]:
    """The same bits in 100 runs."""
    problems = []
    for c in (
        Check(gpu_linear.matmul, dict(M=512, N=512, K=1024), dict(BM=128, BN=128, BK=64), options=Options(num_warps=8)),
        Check(
            gpu_attention.attention_causal,
            dict(B=1, HK=2, G=2, S=512, HD=64),
            dict(BM=64, BS=64),
            scalars={"scale": 0.1},
        ),
        next(c for c in attention_checks() if c.dims.get("S") == 1000),
    ):
        function = c.function
        arrays = {a.name: machine.draw(a, c.dims) for a in function.arrays}
        blocks = machine.upload(arrays)
        launch = machine.load(function, c.dims, c.options).prepare(
            machine.stream, {name: block.address for name, block in blocks.items()}, c.scalars, c.dims
        )
        assert launch is not None
        runs = set()
        for _ in range(100):
            launch(machine.stream)
            runs.add(b"".join(a.tobytes() for a in machine.download(blocks, arrays).values()))
        if len(runs) != 1:
            problems.append(f"{function.name}: {len(runs)} different results in 100 runs")
    return problems


def large(machine: Machine) -> list[str]:
    """Arrays of more than 2³¹ elements: soft-max of equal rows, looked at where offsets of 32 bits would have wrapped."""
    rows, width = 600_000, 4096
    kernel = machine.load(gpu_elementwise.softmax.lower({}, {}), {"D": width}, Options())
    x, y = (machine.device.allocator.allocate(rows * width * 2, machine.queue) for _ in range(2))
    x.buffer.fill(np.uint16(0x3F80).tobytes(), stream=machine.stream)
    y.buffer.fill(np.uint16(0x7FC0).tobytes(), stream=machine.stream)
    launch = kernel.prepare(machine.stream, {"x": x.address, "y": y.address}, {}, {"T": rows})
    assert launch is not None
    launch(machine.stream)
    count = 1 << 22
    copy = machine.load(gpu_elementwise.copy.lower({"BN": 4096}, {}), {"N": count}, Options())
    window, problems = machine.device.allocator.allocate(count * 2, machine.queue), []
    for start in (0, (1 << 31) - count // 2, rows * width - count):
        launch = copy.prepare(machine.stream, {"x": y.address + start * 2, "y": window.address})
        assert launch is not None
        launch(machine.stream)
        found = np.empty(count, np.uint16)
        machine.staging.download(window, found)
        if (found != 0x3980).any():  # 2⁻¹² in bf16
            problems.append(f"large arrays: {int((found != 0x3980).sum())} elements from {start} on are wrong")
    return problems


def main() -> None:
    """Runs all checks; exits with 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100000)
    parser.add_argument("--every", type=int, default=1, help="only each n-th check")
    parser.add_argument("--offset", type=int, default=0, help="which of every n: 0 is the first")
    parser.add_argument(
        "--no-demonstrations", action="store_true", help="none of what fails on purpose, or needs much memory"
    )
    parser.add_argument("--only", default="", help="checks of these kernels, by name")
    parser.add_argument("--compile-only", action="store_true")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    every = [c for c in checks() if not only or c.function.name in only][options.offset :: options.every]
    if options.compile_only:
        for c in every:
            compiled(c.function, c.known, c.options)
        return
    machine = Machine(options.seed)
    print(f"{machine.device.name}, seed {options.seed}")
    problems: list[str] = []
    for c in every:
        problem = check(machine, c)
        if problem:
            problems.append(problem)
            print(f"WRONG {problem}", flush=True)
    print(f"{len(every)} checks", flush=True)
    if not options.no_demonstrations:
        for part in (barriers, dependence, holding, repeatable, large):
            problems += part(machine)
    for problem in problems:
        print(f"WRONG {problem}")
    print("all right" if not problems else f"{len(problems)} wrong")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
