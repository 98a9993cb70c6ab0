"""Contracts of integer arrays and scalars, checked on values."""

from __future__ import annotations

import numpy as np

from zellige.backends.reference.arithmetic import Array
from zellige.ir.types import Contract, ContractKind


def broken_range(values: Array, contract: Contract, bound: int) -> str | None:
    """What is wrong with the range of ``values``, which a contract allows one by one; None if nothing is."""
    values = values.astype(np.int64).reshape(-1)
    high = bound if contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS) else bound - 1
    wrong = (values < 0) | (values > high)
    if contract.optional:
        wrong &= values != -1
    if wrong.any():
        return f"{int(values[wrong][0])} is not in {contract} where the bound is {bound}"
    return None


def broken(values: Array, contract: Contract, bound: int) -> str | None:
    """What is wrong with ``values`` as a whole array under a contract; None if nothing is."""
    problem = broken_range(values, contract, bound)
    if problem:
        return problem
    flat = values.astype(np.int64).reshape(-1)
    match contract.kind:
        case ContractKind.OFFSETS:
            if flat.size == 0 or flat[0] != 0 or flat[-1] != bound:
                return f"offsets do not run from 0 to {bound}"
            if (np.diff(flat) < 0).any():
                return f"offsets decrease at position {int(np.argmax(np.diff(flat) < 0)) + 1}"
        case ContractKind.PERMUTATION:
            if not np.array_equal(np.sort(flat), np.arange(bound)):
                return f"not a permutation of 0 … {bound - 1}"
    if contract.distinct:
        present = np.sort(flat[flat != -1] if contract.optional else flat)
        repeated = present[1:][present[1:] == present[:-1]]
        if repeated.size:
            return f"{int(repeated[0])} occurs twice in {contract}"
    return None
