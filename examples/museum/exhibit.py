"""What the exhibits share: the text of a refusal, and how one is shown when a file is run as a program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from zellige import Kernel, Stream, ZelligeError
from zellige.diagnostics.findings import VerificationError
from zellige.diagnostics.render import render

T = TypeVar("T")


def refusal(call: Callable[[], object]) -> str:
    """The message that ``call`` is refused with. AssertionError if it is accepted."""
    try:
        call()
    except VerificationError as error:
        return "\n".join(map(render, error.findings))
    except ZelligeError as error:
        return error.render()
    raise AssertionError("the wrong program was accepted")


def refusal_of(kernel: Kernel) -> str:
    """The message that a kernel is refused with, at its default static parameters. AssertionError if it is accepted."""
    statics, dtypes = next(kernel.variants())
    return refusal(lambda: kernel.instance(statics, dtypes))


class Gate:
    """Holds a stream up until ``open``, as a device that is busy would: what is shown then is no matter of luck."""

    def __init__(self, stream: Stream) -> None:
        self._opened = threading.Event()
        stream.submit("gate", lambda _: (), self._wait, lambda: None)

    def _wait(self) -> None:
        if not self._opened.wait(20):
            raise TimeoutError("the gate was not opened")

    def open(self) -> None:
        self._opened.set()


def in_another_thread(call: Callable[[], T]) -> Future[T]:
    """``call()`` in a thread of its own, which has had time to end unless something makes it wait."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    wait([future], timeout=0.05)
    return future


def show(wrong: Callable[[], str], right: Callable[[], None]) -> None:
    """Prints what the wrong program gets, then runs the corrected one against NumPy."""
    print(wrong())
    right()
    print("\nThe corrected one is proved for all sizes, and agrees with NumPy.")
