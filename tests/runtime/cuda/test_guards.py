"""The words that guards of kernels on a GPU write to."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from threading import Thread
from types import SimpleNamespace as Some
from typing import Any

import pytest

from zellige.diagnostics.errors import ZelligeError
from zellige.runtime.cuda import guards
from zellige.runtime.cuda.guards import Guards


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done at the end, in order; pages are host memory."""
    done: list[str] = []

    class Page:
        def __init__(self) -> None:
            self.room = (ctypes.c_uint8 * 4096)()
            self.handle = ctypes.addressof(self.room)

        def __del__(self) -> None:
            done.append("page")

    monkeypatch.setattr(guards, "_page", Page)
    yield done


def kernel(number: int) -> Any:
    return Some(name=f"kernel {number}", guards=(f"guard of {number}",))


def test_kernels_of_many_threads_have_words_of_their_own(freed: list[str]) -> None:
    made, kernels = Guards(Some(sync=lambda: None)), [kernel(i) for i in range(2000)]
    words: list[int] = []
    wrong: list[BaseException] = []

    def ask(part: int) -> None:
        try:
            for k in kernels[part::4]:
                words.append(made.flag(k))
                made.check()
        except BaseException as error:
            wrong.append(error)

    threads = [Thread(target=ask, args=(i,)) for i in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong and len(set(words)) == len(kernels)


def test_a_failed_guard_is_said_once_and_by_name(freed: list[str]) -> None:
    made, kernels = Guards(Some(sync=lambda: None)), [kernel(i) for i in range(3)]
    words = [made.flag(k) for k in kernels]
    assert made.flag(kernels[1]) == words[1]
    made.check()
    ctypes.c_int32.from_address(words[1]).value = 1
    with pytest.raises(ZelligeError) as caught:
        made.check()
    assert caught.value.code == "ZL0522" and "kernel 1" in str(caught.value) and "guard of 1" in str(caught.value)
    made.check()


def test_words_go_when_the_kernels_that_may_write_them_have_ended(freed: list[str]) -> None:
    made = Guards(Some(sync=lambda: freed.append("sync")))
    del made
    assert freed == []  # no kernel has guards: nothing to wait for
    made = Guards(Some(sync=lambda: freed.append("sync")))
    made.flag(kernel(0))
    del made
    assert freed == ["sync", "page"]
