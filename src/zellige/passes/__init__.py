"""IR to IR: what makes a function smaller or faster without changing what it means. May import ``ir``.

``simplify`` folds, drops masks that are known true for given sizes, and removes dead code; ``affine`` tells backends how
an index varies along each axis of a tile. Each pass is checked against the IR's spec and the interpreter in tests.
"""
