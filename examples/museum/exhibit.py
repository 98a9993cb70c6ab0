"""What the exhibits share: the text of a refusal, and how one is shown when a file is run as a program."""

from __future__ import annotations

from collections.abc import Callable

from zellige import Kernel, ZelligeError
from zellige.diagnostics.findings import VerificationError
from zellige.diagnostics.render import render


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


def show(wrong: Callable[[], str], right: Callable[[], None]) -> None:
    """Prints what the wrong program gets, then runs the corrected one against NumPy."""
    print(wrong())
    right()
    print("\nThe corrected one is proved for all sizes, and agrees with NumPy.")
