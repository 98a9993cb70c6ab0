"""Habits from NumPy, PyTorch, Triton and plain Python: which are understood, and the exact words about those that are not."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import zellige as zl
from tests.frontend import habits, other_meanings, slips, understood
from tests.golden import assert_golden
from zellige import ZelligeError


def functions(module: ModuleType) -> list[Callable[..., Any]]:
    """The kernels of a module, as plain functions."""
    return [
        f
        for n, f in vars(module).items()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and n != "helper"
        and not hasattr(f, "__zl_inline__")
    ]


REFUSED, UNDERSTOOD = functions(habits) + functions(slips) + functions(other_meanings), functions(understood)


def words(function: Callable[..., Any]) -> str:
    """What a reader is told: where, what, and what to write."""
    with pytest.raises(ZelligeError) as caught:
        zl.kernel(function).lower(zl.kernel(function).signature.statics, {})
    error = caught.value
    assert error.span is not None
    line = linecache.getline(error.span.file, error.span.line)
    end = error.span.end_column if error.span.end_line == error.span.line else len(line)
    parts = [f"{function.__name__}: {line[error.span.column : end].strip()}", f"    {error.code}: {error.message}"]
    parts += [f"    {name}: {value}" for name, value in error.facts.items()]
    return "\n".join([*parts, f"    help: {error.help}"])


def test_habits_are_answered_with_our_words_for_them() -> None:
    assert len(REFUSED) >= 80
    assert_golden(Path(__file__).parent / "golden" / "habits.txt", "\n\n".join(map(words, REFUSED)))


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_the_words_suggest_an_edit(function: Callable[..., Any]) -> None:
    assert "help: None" not in words(function)


@pytest.mark.parametrize("function", UNDERSTOOD, ids=lambda f: f.__name__)
def test_a_habit_that_is_understood(function: Callable[..., Any]) -> None:
    zl.kernel(function).lower({}, {})
