"""The verifier: IR → obligations → verdicts with counterexamples.

What is proved is in ``docs/soundness.md``. Start reading with ``obligations.py`` (what must hold), then ``symbolic.py``
(index values as terms), ``solver.py`` (how a claim is decided) and ``verifier.py`` (the order in which it all happens).
May import ``ir`` and ``diagnostics``. The solver is imported when the first claim needs it.
"""

from zellige.verify.verdict import Record, Verdict
from zellige.verify.verifier import verify

__all__ = ["Record", "Verdict", "verify"]
