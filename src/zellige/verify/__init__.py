"""The verifier: IR → obligations → verdicts with counterexamples.

What is proved is in ``docs/soundness.md``. Start reading with ``obligations.py`` (what must hold), then ``symbolic.py``
(index values as terms), ``solver.py`` (how a claim is decided) and ``verifier.py`` (the order in which it all happens).
May import ``ir`` and ``diagnostics``. The solver is imported when the first claim needs it.
"""

from collections.abc import Callable
from pathlib import Path

from zellige.diagnostics.findings import VerificationError
from zellige.ir.ops import Function
from zellige.verify.cache import VerdictCache
from zellige.verify.verdict import Record, Verdict


def verify(function: Function, dump: Callable[[str], None] | None = None) -> Verdict:
    """Proves a kernel safe for all sizes, or says why not. ``dump`` is given every solver query as SMT-LIB2 text."""
    from zellige.verify.verifier import verify as run  # imports the solver

    return run(function, dump)


def require_proved(function: Function, cache: Path | None = None) -> Verdict:
    """The verdict of a kernel that is proved. VerificationError, with every finding, if it is refused.

    ``cache``: the folder that verdicts are kept in; None keeps none."""
    verdict = verify(function) if cache is None else VerdictCache(cache).verify(function)
    if not verdict.proved:
        raise VerificationError(function.name, verdict.findings)
    return verdict


__all__ = ["Record", "Verdict", "VerdictCache", "require_proved", "verify"]
