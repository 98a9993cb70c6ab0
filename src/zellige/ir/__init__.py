"""The typed tile IR. Read ``ops.py`` first: it is the whole grammar on one page.

``types.py``, ``dtypes.py`` and ``extent.py`` say what values and parameters are; ``builder.py`` makes IR, ``walk.py``
traverses and rewrites it, ``printer.py`` and ``parser.py`` write and read it, ``spec.py`` says what is well-formed.
Imports ``diagnostics`` (for spans and errors) and nothing else of ours.
"""
