"""Worker threads and recorded launch sequences; the native half is `pool.ll`.

A compiled kernel is a function `void k(i64* slots, i64 program_begin, i64 program_end)`. A `Recording` is an array of
launches of such functions; `Pool.replay` runs it on all threads with one native call, during which Python's lock is
released. The bits a kernel produces do not depend on the number of threads: a program runs whole on one of them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from array import array
from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt

from zellige.backends.cpu.cache import cache_folder
from zellige.backends.cpu.objects import load, object_code
from zellige.backends.cpu.target import target

CLAIMS = 8
"""Smallest claim: this fraction of a thread's share, if a launch says nothing else."""
_SPIN_SECONDS = 50e-6  # a waiting thread burns this long before it sleeps
_LAUNCH_WORDS = 8
_SLOT_ALIGN = 64


class Recording:
    """A sequence of launches that replays with one native call.

    Launches run in the order they were added. One that was added with `independent=True` may overlap the one before
    it; any other waits until all earlier ones have completed.
    """

    def __init__(self) -> None:
        self._launches: list[tuple[int, npt.NDArray[np.int64], int, int, bool]] = []
        self._built: tuple[npt.NDArray[np.int64], int] | None = None

    def __len__(self) -> int:
        return len(self._launches)

    def add(
        self,
        entry_address: int,
        slots: Sequence[int],
        programs: int,
        *,
        independent: bool = False,
        claims: int = CLAIMS,
    ) -> int:
        """Appends a launch of `programs` programs (< 2**31) and returns its position.

        `slots` are the kernel's argument words; a thread claims at least its share of programs / `claims` at once.
        """
        if not 0 <= programs < 2**31:
            raise ValueError(f"a launch has 0 to 2**31 - 1 programs, not {programs}")
        self._launches.append((entry_address, _aligned_words(slots), programs, claims, independent))
        self._built = None
        return len(self._launches) - 1

    def slots(self, position: int) -> npt.NDArray[np.int64]:
        """Argument words of launch `position`; writes to it count from the next replay on."""
        return self._launches[position][1]

    def set_programs(self, position: int, programs: int) -> None:
        """Changes how many programs launch `position` has from the next replay on."""
        entry_address, slots, _, claims, independent = self._launches[position]
        self._launches[position] = (entry_address, slots, programs, claims, independent)
        self._built = None

    def native(self, threads: int) -> tuple[npt.NDArray[np.int64], int]:
        """The launch array that `pool.ll` reads, int64 of shape (launches, 8), and the programs of all launches."""
        if self._built is None:
            built = _aligned_words([0] * (_LAUNCH_WORDS * max(1, len(self._launches)))).reshape(-1, _LAUNCH_WORDS)
            after = done = 0
            for row, (entry_address, slots, programs, claims, independent) in zip(built, self._launches, strict=False):
                if not independent:
                    after = done
                done += programs
                smallest = max(1, programs // (threads * claims))
                row[:6] = entry_address, slots.ctypes.data, programs, smallest, after, done
            self._built = built, done
        return self._built


class Pool:
    """`threads` threads that run recordings: the calling one and `threads - 1` workers of its own."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self._code = _native_functions()
        self._state = _aligned_words([0] * (16 + 8 * self.threads))
        words = self._state.view(np.int32)
        words[1] = 1  # closed
        words[8] = 1  # first sequence number; counters start at 0
        words[10] = self.threads
        words[11] = self._code.pauses(_SPIN_SECONDS)
        self._address = self._state.ctypes.data
        self._in_use = threading.Lock()
        self._single = [_aligned_words([0] * _LAUNCH_WORDS) for _ in range(2)]
        self._single_addresses = [row.ctypes.data for row in self._single]
        self._single_words: list[array[int] | None] = [None, None]
        self._turn = 0
        self._last: npt.NDArray[np.int64] | None = None  # a straggler may still read the launches of the last replay
        self._workers = [
            threading.Thread(
                target=self._code.worker, args=(self._address, index), daemon=True, name=f"zellige-{index}"
            )
            for index in range(1, self.threads)
        ]
        for worker in self._workers:
            worker.start()

    def replay(self, recording: Recording) -> None:
        """Runs the launches of `recording` and returns when all of them have completed."""
        with self._in_use:
            launches, programs = recording.native(self.threads)
            self._code.replay(self._address, launches.ctypes.data, len(recording), programs)
            self._last = launches

    def launch(self, entry_address: int, slots: Sequence[int], programs: int, claims: int = CLAIMS) -> None:
        """Runs one kernel and returns when it has completed."""
        words = slots if isinstance(slots, array) else array("q", slots)
        smallest = max(1, programs // (self.threads * claims))
        with self._in_use:
            # Two records in turn: stragglers of the launch before last have left, or the last one could not have begun.
            self._turn ^= 1
            row = self._single[self._turn]
            row[:6] = entry_address, words.buffer_info()[0], programs, smallest, 0, programs
            self._single_words[self._turn] = words
            self._code.replay(self._address, self._single_addresses[self._turn], 1, programs)

    def close(self) -> None:
        """Ends the worker threads; the pool cannot be used afterwards."""
        with self._in_use:
            self._code.shutdown(self._address)
            for worker in self._workers:
                worker.join()
            self._workers = []


_default: Pool | None = None
_default_lock = threading.Lock()


def default_pool() -> Pool:
    """The pool with one thread for each core this process may use, made on first use.

    The environment variable ZELLIGE_THREADS chooses another number.
    """
    global _default
    with _default_lock:
        if _default is None:
            chosen = os.environ.get("ZELLIGE_THREADS", "")
            _default = Pool(int(chosen) if chosen else None)
            atexit.register(_default.close)
        return _default


def _forget_default_pool() -> None:
    """After a fork the child has no worker threads: it makes its own."""
    global _default, _default_lock
    if _default is not None:
        atexit.unregister(_default.close)
    _default = None
    _default_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_default_pool)


class _Native:
    """The functions of `pool.ll`."""

    def __init__(self, addresses: dict[str, int]) -> None:
        pointer, word = ctypes.c_void_p, ctypes.c_int64
        self.worker = ctypes.CFUNCTYPE(None, pointer, word)(addresses["zellige_pool_worker"])
        self.replay = ctypes.CFUNCTYPE(None, pointer, pointer, word, word)(addresses["zellige_pool_replay"])
        self.shutdown = ctypes.CFUNCTYPE(None, pointer)(addresses["zellige_pool_shutdown"])
        self._spin = ctypes.CFUNCTYPE(None, word)(addresses["zellige_pool_spin"])
        self._pause_seconds = 0.0

    def pauses(self, seconds: float) -> int:
        """How many pause instructions take about `seconds`."""
        if not self._pause_seconds:
            count = 2000
            timings = []
            for _ in range(3):
                start = time.perf_counter()
                self._spin(count)
                timings.append(time.perf_counter() - start)
            self._pause_seconds = min(timings) / count
        return max(1, min(10**6, int(seconds / self._pause_seconds)))


_native: _Native | None = None


def _native_functions() -> _Native:
    global _native
    if _native is None:
        text = resources.files("zellige.backends.cpu").joinpath("pool.ll").read_text()
        symbols = ("worker", "replay", "shutdown", "spin")
        code = object_code(text, lambda: text, target("generic"), cache_folder())
        _native = _Native(load(code, tuple(f"zellige_pool_{symbol}" for symbol in symbols)))
    return _native


def _aligned_words(values: Sequence[int]) -> npt.NDArray[np.int64]:
    """An int64 array of `values` that starts on a cache line."""
    room = np.zeros(len(values) + _SLOT_ALIGN // 8, np.int64)
    skip = (-room.ctypes.data % _SLOT_ALIGN) // 8
    words = room[skip : skip + len(values)]
    words[:] = values
    return words
