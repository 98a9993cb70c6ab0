"""Kernels as callables: tensors and their ownership, argument binding, launch, streams, recorded graphs, caches.

Start with ``kernel.py`` (what ``@zl.kernel`` makes and what a call does), then ``binding.py`` and ``plan.py`` (arguments to
dims, dtypes and contracts), ``memory.py`` and ``admission.py`` (who uses which memory, and how a launch borrows it),
``stream.py`` and ``graph.py`` (the other two ways to run). ``docs/ownership.md`` explains the rules. May import everything
below ``kernels`` and ``llm``.
"""
