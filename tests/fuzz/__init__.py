"""Fuzzing of soundness: nothing that the verifier accepts may trip the reference interpreter.

``kernels`` draws kernels that are right or nearly so, ``arguments`` draws sizes and contents that a launch allows,
``campaign`` puts both to the verifier and the interpreter (``python -m tests.fuzz.campaign --count 500 --seed 1``), and
``mutation`` breaks the library's kernels on purpose (``python -m tests.fuzz.mutation``).
"""
