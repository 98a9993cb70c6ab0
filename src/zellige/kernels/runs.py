"""Columns in runs, for products of single tokens: a thread adds the products of a run before they count, and keeps a sum for each run.

Without (a run of 1) it keeps one for each column that it has, which costs registers, and with them programs that wait beside each
other; a run costs additions that wait for each other. Which is faster is a matter of schedules.
"""

from __future__ import annotations

import zellige as zl


@zl.inline
def columns(runs, size, extent):
    """The columns of some runs, [runs, size], those past the end inactive; of runs of 1, [runs], the runs themselves."""
    if size == 1:
        return runs
    d = runs[:, None] * size + zl.arange(size)[None, :]
    return zl.only(d, d < extent)


@zl.inline
def for_rows(x, size):
    """x, a number for each of some columns, beside the weights that several rows have there."""
    return x[None, :] if size == 1 else x[None, :, :]


@zl.inline
def sums(x, size):
    """The sum of each run; of runs of 1, x."""
    return x if size == 1 else zl.sum(x, axis=-1)
