"""Specialised tile IR → Triton source → cubin.

``padding.py`` analyses a function (as does ``passes/bounds.py``); ``operators.py`` is the table from operation to text and
``expressions.py`` writes values; ``access.py`` (pointers and masks), ``descriptors.py`` (bulk copies) and ``quantised.py``
write loads and stores; ``hazards.py`` places barriers and ``prefetch.py`` what runs before a dependent launch waits;
``lowering.py`` puts the source together (``source.py``), and ``compiler.py`` turns it into a ``CompiledKernel`` without a
GPU. Start with ``lowering.py``. May import ``ir`` and ``passes``, never a runtime.
"""
