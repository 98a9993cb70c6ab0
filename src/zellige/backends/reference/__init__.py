"""The reference interpreter: executes the IR in NumPy, one program at a time, and watches every access.

It is the oracle for soundness (nothing that the verifier accepts may trip it) and for meaning (backends are compared
with it). Imports ``ir`` and ``diagnostics``. Start with ``launch.py``: ``run`` is the interface; ``interpreter.py``
executes operations, ``shadow.py`` watches memory, ``arithmetic.py`` says what the elementwise operations compute.
"""

from zellige.backends.reference.launch import run
from zellige.backends.reference.report import GuardFailure, LaunchRefused, Report, Trip, Violation

__all__ = ["GuardFailure", "LaunchRefused", "Report", "Trip", "Violation", "run"]
