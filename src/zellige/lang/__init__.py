"""What a kernel author writes: dims, dtypes, ownership types, contracts, tile operations.

Declarations only: the functions here have signatures and docstrings, and the frontend gives them meaning. May import
``ir``. Start with ``params.py`` (the types in a kernel's signature), then ``operations.py``.
"""
