"""Streams of a GPU, views of tensors, and memory shared with PyTorch and CuPy: what they give, against the same calls in NumPy.

    python benchmarks/gpu/ownership.py                   on a machine with a GPU (a minute; PyTorch and CuPy if they are there)
    python benchmarks/gpu/ownership.py --compile-only    fills the kernel cache on a machine without one

Calls are given to three streams at random, far ahead of the GPU; each check has a control that forgets what it checks.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import zellige as zl
from zellige import ZelligeError, i32
from zellige.ir import dtypes
from zellige.runtime import admission
from zellige.runtime.cuda.executor import CudaExecutor
from zellige.runtime.cuda.foreign import borrow
from zellige.runtime.cuda.order import Outside, Users
from zellige.runtime.element_types import numpy_dtype

Array = np.ndarray[Any, Any]
M, N, K = zl.dims("M N K")
T = zl.dtypes("T", zl.i8, zl.i32, zl.bf16, zl.f32)
SIZE = 1 << 23
LARGE = 1 << 26
"""So many that the GPU takes longer than the host for each call."""


@zl.kernel
def scale_add(x: zl.In[i32, M], a: i32, *, y: zl.Mut[i32, M], B: zl.Static = 1024):
    i = zl.grid(M.tiles(B))
    y[i] = y[i] * 3 + x[i] * a


@zl.kernel
def double(x: zl.In[i32, M], *, y: zl.Out[i32, M], B: zl.Static = 1024):
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * 2


@zl.kernel
def add_one(*, y: zl.Mut[i32, M], B: zl.Static = 1024):
    i = zl.grid(M.tiles(B))
    y[i] = y[i] + 1


@zl.kernel
def take(x: zl.In[i32, M], at: zl.In[zl.Index[M], N], *, y: zl.Out[i32, N], B: zl.Static = 256):
    i = zl.grid(N.tiles(B))
    y[i] = x[at[i]]


@zl.kernel
def copied(x: zl.In[T, M, N], *, y: zl.Out[T, M, N], BM: zl.Static = 16, BN: zl.Static = 64):
    i, j = zl.grid(M.tiles(BM), N.tiles(BN))
    y[i, j] = x[i, j]


@zl.kernel
def counted(at: zl.In[zl.Index[N], M], *, y: zl.Acc[zl.u8, N], B: zl.Static = 128):
    i = zl.grid(M.tiles(B))
    y.add(at[i], zl.full((B,), 1, zl.u8))


@zl.kernel
def product(a: zl.In[T, M, K], b: zl.In[T, K, N], *, c: zl.Out[zl.f32, M, N], BM: zl.Static = 32, BN: zl.Static = 32):
    i, j = zl.grid(M.tiles(BM), N.tiles(BN))
    sums = zl.zeros((BM, BN), zl.f32)
    for k in K.tiles(32):
        sums += zl.dot(a[i, k], b[k, j])
    c[i, j] = sums


@zl.kernel
def unpacked(x: zl.In[dtypes.Q8_0, M, N], *, y: zl.Out[zl.f32, M, N], BM: zl.Static = 8):
    i, j = zl.grid(M.tiles(BM), N.tiles(32))
    y[i, j] = x[i, j].to(zl.f32)


class Report:
    """Counts what was checked."""

    def __init__(self) -> None:
        self.wrong = 0

    def check(self, name: str, run: Callable[[], tuple[int, int]]) -> None:
        """``run`` gives how many cases were wrong, and how many there were."""
        try:
            wrong, count = run()
        except Exception:
            traceback.print_exc()
            wrong, count = 1, 1
        self.wrong += wrong
        print(f"{name}: {wrong} wrong of {count}", flush=True)

    def control(self, name: str, run: Callable[[], tuple[int, int]]) -> None:
        """As ``check``, of something that has to go wrong."""
        wrong, count = run()
        self.wrong += not wrong
        print(f"  control, {name}: {wrong} wrong of {count}{'' if wrong else ': THE CHECK SEES NOTHING'}", flush=True)


# --- streams
def drawn(seed: int, steps: int) -> list[tuple[Any, ...]]:
    """Calls on five arrays and three streams: (call, stream, array, array, number)."""
    random = Random(seed)
    calls = ["scale", "scale", "double", "double", "part", "zeros", "copy", "fetch", "graph", "free", "write"]
    return [
        (random.choice(calls), random.randrange(3), *random.sample(range(5), 2), random.randrange(100))
        for _ in range(steps)
    ]


def on_gpu(first: CudaExecutor, steps: list[tuple[Any, ...]]) -> list[Array]:
    """What the calls leave, and what was fetched in between."""
    streams: list[Any] = [first, first.beside(), first.beside()]
    start = [np.arange(k, k + SIZE, dtype=np.int32) for k in range(5)]
    tensors = [streams[k % 3].tensor(values, i32) for k, values in enumerate(start)]
    with zl.using(streams[1]), zl.record() as graph:
        scale_add(tensors[0], 3, y=tensors[1])
        add_one(y=tensors[0])
    fetched: list[Callable[[], Array]] = []
    for call, number, a, b, value in steps:
        stream = streams[number]
        b = b if b > 1 else 2 + (a != 2)
        if a == b:
            continue
        with zl.using(stream):
            match call:
                case "scale":
                    scale_add(tensors[a], 5, y=tensors[b])
                case "double":  # the old tensor goes, and its memory to whoever asks next
                    tensors[b] = double(tensors[a])
                case "part":
                    add_one(y=tensors[a][value : SIZE - value])
                case "zeros":
                    tensors[b] = stream.zeros((SIZE,), i32)
                case "copy" if number:
                    stream.copy(tensors[a], tensors[b])
                case "fetch":
                    fetched.append(stream.fetch(tensors[a]))
                case "graph":
                    graph.replay()
                case "free":
                    kept = double(tensors[a])
                    scale_add(kept, 1, y=tensors[b])
                    del kept
                case "write" if value < 20:
                    tensors[a].write(start[b])
    return [wait() for wait in fetched] + [tensor.numpy() for tensor in tensors]


def on_host(steps: list[tuple[Any, ...]]) -> list[Array]:
    """The same in NumPy."""
    start = [np.arange(k, k + SIZE, dtype=np.int32) for k in range(5)]
    values = [v.copy() for v in start]
    fetched = []
    for call, number, a, b, value in steps:
        b = b if b > 1 else 2 + (a != 2)
        if a == b:
            continue
        match call:
            case "scale":
                values[b] = values[b] * 3 + values[a] * 5
            case "double":
                values[b] = values[a] * 2
            case "part":
                values[a][value : SIZE - value] += 1
            case "zeros":
                values[b] = np.zeros(SIZE, np.int32)
            case "copy" if number:
                values[b] = values[a].copy()
            case "fetch":
                fetched.append(values[a].copy())
            case "graph":
                values[1] = values[1] * 3 + values[0] * 3
                values[0] = values[0] + 1
            case "free":
                values[b] = values[b] * 3 + values[a] * 2
            case "write" if value < 20:
                values[a] = start[b].copy()
    return fetched + values


def streams(first: CudaExecutor, seeds: range, steps: int) -> tuple[int, int]:
    """Random calls on three streams."""
    wrong = 0
    for seed in seeds:
        calls = drawn(seed, steps)
        found = on_gpu(first, calls)
        if first.device is not None:
            wrong += not all(map(np.array_equal, found, on_host(calls)))
    return wrong, len(seeds)


@contextmanager
def without(owner: type, name: str) -> Iterator[None]:
    """A method does nothing meanwhile."""
    kept = getattr(owner, name)
    setattr(owner, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def events(first: CudaExecutor) -> tuple[int, int]:
    """Events, waits, ``await``, several executors of one GPU."""
    ok = []
    with zl.using(first):
        x = first.tensor(np.arange(SIZE, dtype=np.int32), i32)
        with zl.stream() as s:
            for _ in range(50):
                y = double(x)
            point = s.event()
        other: Any = zl.stream()
        other.wait(point)
        point.wait()
        ok.append(point.done and s.done)

        async def waited() -> bool:
            with s:
                z = double(y)
            await s
            await s.event()
            return bool((z.numpy()[:4] == [0, 4, 8, 12]).all())

        ok.append(first.device is None or asyncio.run(waited()))
        second = CudaExecutor(first.device, first.target, schedules=first.schedules)
        for _ in range(20):
            add_one(y=x)
        with zl.using(second):
            z = double(x)
        ok.append(first.device is None or bool((z.numpy()[:3] == [40, 42, 44]).all()))
    return ok.count(False), len(ok)


# --- views
VIEWS: tuple[Callable[[Any], Any], ...] = (
    lambda a: a[3:, 5:], lambda a: a[1:, :], lambda a: a[::2, ::3], lambda a: a.T, lambda a: a[7:100, 1:129].T,
    lambda a: a[:1, :], lambda a: a[5:5, :], lambda a: a[:, 8:72], lambda a: a[::-1, :],
)  # fmt: skip


def views(first: CudaExecutor) -> tuple[int, int]:
    """Parts, transposed and unaligned, read and written, of several types; products of them."""
    wrong = count = 0
    random = np.random.default_rng(3)

    def compare(tensor: zl.Tensor, wanted: Array, what: object) -> None:
        nonlocal wrong, count
        count += 1
        if first.device is not None and not np.array_equal(tensor.numpy(), wanted):
            wrong += 1
            print(f"  {what} differs", flush=True)

    with zl.using(first):
        for dtype in (zl.i8, zl.i32, zl.bf16, zl.f32):
            whole = random.integers(-9, 9, (257, 332)).astype(numpy_dtype(dtype))
            for number, part in enumerate(VIEWS):
                given, target = first.tensor(whole, dtype), first.tensor(whole, dtype)
                compare(copied(part(given)), part(whole), f"{dtype} view {number}, read")
                copied(first.tensor(part(whole)[...].copy() * 2, dtype), y=part(target))
                wanted = whole.copy()
                part(wanted)[...] *= 2
                compare(target, wanted, f"{dtype} view {number}, written")
                part(target).write(part(whole) * 3)
                part(wanted)[...] = part(whole) * 3
                compare(target, wanted, f"{dtype} view {number}, written by the host")
            if dtype in (zl.bf16, zl.f32):
                a, b = first.tensor(whole, dtype), first.tensor(whole, dtype)
                for left, right in (
                    (lambda t: t[:64, :96], lambda t: t[5:101, 9:73]),
                    (lambda t: t[1:33, :64].T, lambda t: t[::2, 4:][:32]),
                    (lambda t: t[:128], lambda t: t[:128].T),
                ):
                    exact = left(whole).astype(np.float32) @ right(whole).astype(np.float32)
                    compare(product(left(a), right(b)), exact, f"{dtype} product")
        blocks = random.integers(0, 256, (40, 2 * 34)).astype(np.uint8)
        blocks[:, 1::34] &= 0x3F  # scales that are numbers
        scales = blocks.reshape(40, 2, 34)[..., :2].copy().view(np.float16).astype(np.float32)
        numbers = (blocks.reshape(40, 2, 34)[..., 2:].view(np.int8) * scales).reshape(40, 64)
        there = first.empty((40, 64), dtypes.Q8_0)
        there.write(blocks)
        for part in (lambda t: t, lambda t: t[::3], lambda t: t[1:20]):
            compare(unpacked(part(there)), part(numbers), "q8_0 rows")
        compare(
            take(first.tensor(np.arange(100, dtype=np.int32), i32), first.tensor(np.arange(50, dtype=np.int32), i32)),
            np.arange(50, dtype=np.int32),
            "take",
        )
        bins = random.integers(0, 37, 5000).astype(np.int32)
        for low in range(5):  # eight bits at a time, in words of which others hold the rest
            room = first.zeros((64,), zl.u8)
            part = room[low : low + 37]
            counted(first.tensor(bins, i32), y=part)
            wanted = np.zeros(64, np.uint8)
            wanted[low : low + 37] = np.bincount(bins, minlength=37).astype(np.uint8)
            compare(room, wanted, f"u8 updates from byte {low}")
    return wrong, count


# --- others' memory
def borrowed(first: CudaExecutor, torch: Any, rounds: int, *, named: bool, beside: bool) -> tuple[int, int]:
    """A tensor of PyTorch that both change in turn; ``named``: we are told the stream."""
    stream = torch.cuda.Stream() if beside else torch.cuda.current_stream()
    wrong = 0
    for seed in range(rounds):
        random = Random(seed)
        ours: list[Any] = [first, first.beside()]
        with torch.cuda.stream(stream):
            theirs = torch.arange(LARGE, dtype=torch.int32, device="cuda")
            tensor = zl.borrow(theirs, stream=stream.cuda_stream) if named else zl.borrow(theirs)
            factor, rest = 1, 0
            for _ in range(12):
                theirs.mul_(3)
                with zl.using(ours[random.randrange(2)]):
                    add_one(y=tensor)
                theirs.add_(5)
                factor, rest = factor * 3, rest * 3 + 1 + 5
            wanted = torch.arange(LARGE, dtype=torch.int32, device="cuda") * factor + rest
            wrong += not bool((theirs == wanted).all())
    return wrong, rounds


def overlapping(first: CudaExecutor, torch: Any) -> tuple[int, int]:
    """Two borrows of one memory, each with a stream of its own."""
    wrong = 0
    for _ in range(5):
        streams = [torch.cuda.Stream(), torch.cuda.Stream()]
        whole = torch.zeros(SIZE, dtype=torch.int32, device="cuda")
        torch.cuda.synchronize()
        some = zl.borrow(whole[: SIZE - 100], stream=streams[0].cuda_stream)
        rest = zl.borrow(whole[100:], stream=streams[1].cuda_stream)
        for _ in range(10):
            with zl.using(first):
                add_one(y=some)
            with zl.using(first.beside()):
                scale_add(first.zeros((SIZE - 100,), i32), 0, y=rest)
        torch.cuda.synchronize()
        wanted = np.zeros(SIZE, np.int32)
        for _ in range(10):
            wanted[: SIZE - 100] += 1
            wanted[100:] *= 3
        wrong += not np.array_equal(whole.cpu().numpy(), wanted)
    return wrong, 5


def exported(first: CudaExecutor, library: ModuleType, rounds: int) -> tuple[int, int]:
    """A tensor of ours that another library changes in turn with us, and gives back."""
    wrong = 0
    with zl.using(first):
        for _ in range(rounds):
            ours = first.tensor(np.arange(SIZE, dtype=np.int32), i32)
            for _ in range(20):
                add_one(y=ours)
            theirs = library.from_dlpack(ours)
            theirs += 7
            with zl.using(first.beside()):
                scale_add(ours, 1, y=(twin := first.zeros((SIZE,), i32)))
                add_one(y=ours)
            theirs *= 2
            del theirs
            add_one(y=ours)
            base = np.arange(SIZE, dtype=np.int32) + 27
            wrong += not (np.array_equal(twin.numpy(), base) and np.array_equal(ours.numpy(), (base + 1) * 2 + 1))
    return wrong, rounds


def contract(first: CudaExecutor, library: ModuleType) -> tuple[int, int]:
    """What another library writes where a contract was checked is checked again."""
    ok = []
    with zl.using(first):
        x = first.tensor(np.arange(100, dtype=np.int32), i32)
        at = first.tensor(np.arange(50, dtype=np.int32), i32)
        take(x, at)
        theirs = library.from_dlpack(at)
        ok.append(bool((take(x, at).numpy() == np.arange(50)).all()))
        theirs[3] = 100
        for _ in range(2):
            try:
                take(x, at)
                ok.append(False)
            except ZelligeError as error:
                ok.append(error.code == "ZL0505")
        theirs[3] = 3
        del theirs
        ok.append(bool((take(x, at).numpy() == np.arange(50)).all()))
    return ok.count(False), len(ok)


@contextmanager
def written_after_checks(array: Any) -> Iterator[None]:
    """The owner of an array writes it as soon as a contract of it has been checked: none of it is an index then."""
    check = admission.broken

    def then_written(fact: Any, seen: Any) -> Any:
        problem = check(fact, seen)
        array[:] = 1 << 30
        return problem

    admission.broken = then_written
    try:
        yield
    finally:
        admission.broken = check


def checked_and_read(first: CudaExecutor, torch: Any, *, graph: bool) -> tuple[int, int]:
    """What was checked of others' indices is what is read, by calls and by replays."""
    ok: list[bool] = []
    x = first.tensor(np.arange(1000, dtype=np.int32) * 7, i32)
    theirs = torch.zeros(500, dtype=torch.int32, device="cuda")
    random = np.random.default_rng(3)
    with zl.using(first):
        at = borrow(theirs)
        with zl.record() as recorded:
            y = take(x, at)
        for _ in range(4):
            indices = random.integers(0, 1000, 500, np.int32)
            theirs.copy_(torch.from_numpy(indices))
            with written_after_checks(theirs):
                if graph:
                    recorded.replay()
                else:
                    y = take(x, at)
                first.synchronise()
            ok.append(bool((y.numpy() == indices * 7).all()))
            try:
                recorded.replay() if graph else take(x, at)
                ok.append(False)
            except ZelligeError as error:
                ok.append(error.code == "ZL0505")
    return ok.count(False), len(ok)


def kinds(first: CudaExecutor, torch: Any) -> tuple[int, int]:
    """Types, strides, unaligned beginnings and what is refused."""
    ok: list[bool] = []
    with zl.using(first):
        for dtype in (torch.int8, torch.int32, torch.bfloat16, torch.float32):
            for part in VIEWS[:7]:
                theirs = torch.randint(-9, 9, (257, 332), device="cuda").to(dtype)
                seen = part(zl.borrow(theirs))
                ok.append(bool((torch.from_dlpack(copied(seen)) == part(theirs)).all()))
                ok.append(bool((torch.from_dlpack(copied(zl.borrow(part(theirs)))) == part(theirs)).all()))
        for dtype in (torch.complex64, torch.float8_e4m3fn):
            try:
                seen = zl.borrow(torch.zeros(4, device="cuda").to(dtype))
                ok.append(dtype is torch.float8_e4m3fn and seen.dtype is zl.f8e4m3)
            except (ZelligeError, BufferError) as error:
                print(f"  {dtype}: {error}")
                ok.append(True)
        try:
            torch.from_dlpack(first.empty((4,), i32))
            ok.append(False)
        except ZelligeError as error:
            ok.append(error.code == "ZL0504")
        try:
            np.from_dlpack(first.zeros((4,), i32))
            ok.append(False)
        except (BufferError, RuntimeError):
            ok.append(True)
        z = double(
            torch.arange(5, dtype=torch.int32, device="cuda")
        )  # a plain array of the GPU is borrowed for the call
        ok.append(z.numpy().tolist() == [0, 2, 4, 6, 8])
        with zl.record() as graph:
            y = double(zl.borrow(kept := torch.arange(5, dtype=torch.int32, device="cuda")))
        kept.add_(1)
        graph.replay()
        ok.append(y.numpy().tolist() == [2, 4, 6, 8, 10])
    return ok.count(False), len(ok)


def threads(first: CudaExecutor) -> tuple[int, int]:
    """New threads, which have used no GPU before, call, replay, read and write; memory goes from one to the other."""
    ok: list[bool] = []
    blind = first.device is None
    with zl.using(first):
        shared = first.zeros((1000,), i32)
        with zl.record() as graph:
            add_one(y=shared)

    def work(number: int) -> None:
        with zl.using(first.beside() if number % 2 else first):
            for turn in range(20):
                values = np.arange(1000, dtype=np.int32) + number * turn
                x = first.tensor(values, i32)
                y = double(double(x))
                cleared = first.zeros((1000,), i32)
                scale_add(y, 1, y=cleared)
                graph.replay()
                shared.numpy()
                ok.append(blind or bool((cleared.numpy() == 4 * values).all()))
                x.write(values + 1)
                ok.append(blind or bool((double(x).numpy() == 2 * (values + 1)).all()))

    several = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    ok += [blind or bool((shared.numpy() == 80).all()), len(ok) == 160]
    return ok.count(False), len(ok)


# --- what it costs
def cost(first: CudaExecutor, what: str, y: zl.Tensor) -> None:
    """Microseconds of the host for a launch."""
    x = first.tensor(np.arange(1024, dtype=np.int32), i32)
    with zl.using(first):
        best = 1e9
        for _ in range(20):
            first.synchronise()
            began = time.perf_counter()
            for _ in range(200):
                scale_add(x, 1, y=y)
            best = min(best, (time.perf_counter() - began) / 200)
    print(f"  a launch, {what}: {best * 1e6:.2f} us", flush=True)


def main() -> int:
    """0 if everything was right."""
    only = "--compile-only" in sys.argv
    report = Report()
    first = CudaExecutor(None, "sm_90", schedules="NVIDIA H200") if only else CudaExecutor.default()
    if not only:
        cost(first, "one stream", first.zeros((1024,), i32))
    report.check("views", lambda: views(first))
    report.check("events", lambda: events(first))
    report.check("threads", lambda: threads(first))
    report.check("three streams", lambda: streams(first, range(2 if only else 12), 60))
    if only:
        return report.wrong
    with without(Users, "admit"):
        report.control("no waits", lambda: streams(first, range(100, 106), 60))
    first.device.synchronise()  # type: ignore[union-attr]
    cost(first, "a second stream", first.zeros((1024,), i32))
    try:
        import torch
    except ImportError:
        print("PyTorch is not here")
        return report.wrong
    for beside in (False, True):
        for named in (False, True):
            form = f"{'beside' if beside else 'default'} stream{', named' if named else ''}"
            report.check(
                f"borrowed from PyTorch, {form}", lambda n=named, b=beside: borrowed(first, torch, 4, named=n, beside=b)
            )
    with without(Outside, "before"), without(Outside, "after"):
        report.control("no waits", lambda: borrowed(first, torch, 4, named=True, beside=True))
    first.device.synchronise()  # type: ignore[union-attr]
    report.check("two borrows of one memory", lambda: overlapping(first, torch))
    report.check("kinds", lambda: kinds(first, torch))
    report.check("exported to PyTorch", lambda: exported(first, torch, 5))
    report.check("contracts and PyTorch", lambda: contract(first, torch))
    for graph in (False, True):
        name = f"others' indices in {'graphs' if graph else 'calls'}"
        report.check(name, lambda g=graph: checked_and_read(first, torch, graph=g))
    theirs = torch.zeros(1024, dtype=torch.int32, device="cuda")
    cost(first, "borrowed, stream named", borrow(theirs, torch.cuda.current_stream().cuda_stream))
    cost(first, "borrowed, no stream named", borrow(theirs))
    try:
        import cupy
    except ImportError:
        print("CuPy is not here")
    else:
        report.check("exported to CuPy", lambda: exported(first, cupy, 3))
        report.check("contracts and CuPy", lambda: contract(first, cupy))
    print(f"{report.wrong} wrong in all")
    return report.wrong


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
