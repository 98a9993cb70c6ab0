"""Python source to tile IR: knows Python's ``ast`` and the declarations of ``lang``, nothing of solvers or backends.

Start with ``lower.py`` (statements), then ``expressions.py``, ``operations.py`` (one function an operation) and
``indexing.py`` (subscripts to loads and stores). May import ``lang``, ``ir`` and ``diagnostics``.
"""
