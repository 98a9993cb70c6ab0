"""Kernels as callables: tensors and their ownership, argument binding, launch, recorded graphs, caches.

Start with ``kernel.py`` (what ``@zl.kernel`` makes and what a call does), then ``binding.py`` (arguments to dims, dtypes
and contracts) and ``tensor.py``. May import everything below ``kernels`` and ``llm``.
"""
