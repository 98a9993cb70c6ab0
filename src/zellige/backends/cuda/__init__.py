"""Specialised tile IR → Triton source → cubin.

``intervals.py`` and ``padding.py`` analyse a function, ``operators.py`` is the table from operation to text, ``access.py``
writes loads and stores, ``hazards.py`` places barriers, ``lowering.py`` puts the source together, and ``compiler.py`` turns
it into a ``CompiledKernel`` without a GPU. Start with ``lowering.py``. May import ``ir`` and ``passes``, never a runtime.
"""
