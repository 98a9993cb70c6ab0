"""Copies of what lies in mapped files are read from them, and are the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from zellige.diagnostics import ZelligeError
from zellige.runtime import mapped
from zellige.runtime.mapped import MappedFile, copy_bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(np.random.default_rng(1).integers(0, 256, 100_003, np.uint8).tobytes())
    return made


def open_mapped(path: Path) -> MappedFile:
    with open(path, "rb") as file:
        return MappedFile(file)


@pytest.mark.parametrize(("first", "count"), [(0, 100_003), (7, 5), (4095, 8193), (99_990, 13), (50, 0)])
def test_bytes_of_a_mapped_file_are_read(path: Path, first: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: read.append(real(*given)) or read[-1])
    view = np.frombuffer(open_mapped(path), np.uint8, count, first) if count else np.empty(0, np.uint8)
    target = np.zeros(count, np.uint8)
    copy_bytes(target, view)
    assert target.tobytes() == path.read_bytes()[first : first + count]
    assert sum(read) == count


def test_views_of_other_types_are_found(path: Path) -> None:
    view = np.frombuffer(open_mapped(path), "<u2", 600, 3).reshape(20, 30)[4:9].reshape(-1).view(np.uint8)
    target = np.zeros(300, np.uint8)
    copy_bytes(target, view)
    assert mapped._file_behind(view) is not None
    assert target.tobytes() == path.read_bytes()[3 + 240 : 3 + 240 + 300]


def test_other_arrays_are_copied() -> None:
    source, target = np.arange(50, dtype=np.uint8), np.zeros(50, np.uint8)
    copy_bytes(target, source)
    assert (target == source).all()


def test_a_file_that_became_shorter_is_an_error(path: Path) -> None:
    file = open_mapped(path)
    view = np.frombuffer(file, np.uint8)
    os.truncate(path, 60_000)
    with pytest.raises(ZelligeError) as found:
        copy_bytes(np.zeros(len(view), np.uint8), view)
    assert found.value.code == "ZL0603"
    assert "60,000" in str(found.value)


def test_the_file_is_closed_with_its_last_view(path: Path) -> None:
    view = np.frombuffer(open_mapped(path), np.uint8)
    file = mapped._file_behind(view)
    assert file is not None
    descriptor = file.descriptor
    os.fstat(descriptor)
    del file, view
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
