"""Lanes of tiles: one term per axis, and how operands see them."""

from __future__ import annotations

from zellige.ir.extent import Const
from zellige.ir.ops import Value
from zellige.verify.terms import Int, const

Lanes = tuple[Int, ...]


def reduced(value: Value, lanes: Lanes) -> Lanes:
    """Lanes of an access, as seen by an operand of it: none of a scalar, 0 on axes of extent 1."""
    if not value.type.rank:
        return ()
    return tuple(const(0) if e == Const(1) else lane for e, lane in zip(value.type.shape, lanes, strict=True))


def replaced(lanes: Lanes, axis: int, lane: Int) -> Lanes:
    """``lanes`` with another one on ``axis``."""
    return (*lanes[:axis], lane, *lanes[axis + 1 :])
