"""Whether a graph may work on fewer rows than it was captured with. All conditions are checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.extent import Dim
from zellige.runtime import preconditions
from zellige.runtime.binding import check_scalar, fact_of
from zellige.runtime.capture import Capture, Step, given_by


def check(capture: Capture, sizes: Mapping[str, int], changed: Mapping[str, int]) -> list[tuple[Step, dict[str, int]]]:
    """The launches that name one of the dims, each with all its dims at the new sizes.

    ZelligeError ZL0521 (a dim that cannot be resized so), ZL0507 (a precondition), ZL0505 (a scalar's contract)."""
    new: dict[int, dict[str, int]] = {}
    found = []
    for step in capture.steps:
        full = step.binding.dims
        dims = {name: sizes.get(name, size) for name, size in full.items()}
        new[id(step)] = dims
        _check_parts(step, full, dims, sizes)
        mine = [name for name in changed if name in full]
        if not mine:
            continue
        for name in mine:
            _check_dim(step, name, changed[name], full[name])
        check_preconditions(step, dims, step.binding.scalars)
        for scalar in step.launch.instance.function.scalars:
            if scalar.contract is not None:
                check_scalar(step.binding.plan.kernel, scalar, step.binding.scalars[scalar.name], dims)
        found.append((step, dims))
    unknown = [name for name in changed if not any(name in step.binding.dims for step in capture.steps)]
    if unknown and len(unknown) == len(changed):
        raise ZelligeError("ZL0521", f"no launch of this graph has a dim {unknown[0]}")
    for link in capture.links:
        assert link.wanted.contract is not None
        consumer, producer = new[id(link.consumer)], new[id(link.producer)]
        wanted = fact_of(link.wanted.contract, consumer)
        reads, writes = _rows(link.wanted.shape, consumer), _rows(link.given.shape, producer)
        whole = _rows(link.given.shape, link.producer.binding.dims) == writes
        if not given_by(link, producer, wanted) or not (whole or (not link.part and reads <= writes)):
            raise ZelligeError(
                "ZL0521", f"at these sizes '{link.given.name}' of {link.producer.binding.plan.kernel} does not give "
                f"'{link.wanted.name}' of {link.consumer.binding.plan.kernel} the contract {wanted}", facts=dict(changed),
            )  # fmt: skip
    return found


def _check_parts(step: Step, full: Mapping[str, int], dims: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    """ZelligeError ZL0521 unless each kernel of a fused launch gets the sizes that it would have got alone."""
    for part in step.parts:
        for name, extent in part.dims.items():
            if extent.dims() <= full.keys() and extent.evaluate(dims) != (
                size := sizes.get(name, extent.evaluate(full))
            ):
                raise ZelligeError(
                    "ZL0521", f"{part.kernel} is part of a fused launch in which its dim {name} is {extent}",
                    facts={name: size, str(extent): extent.evaluate(dims)}, help="resize both, or fuse after recording at these sizes",
                )  # fmt: skip


def check_preconditions(step: Step, dims: Mapping[str, int], scalars: Mapping[str, Any]) -> None:
    """ZelligeError ZL0507 if a launch's ``zl.requires`` does not hold."""
    if step.binding.plan.has_preconditions:
        preconditions.check(step.binding.plan.instance.function, dims, scalars)


def _rows(shape: Any, dims: Mapping[str, int]) -> int:
    return int(shape[0].evaluate(dims)) if shape else 1


def _check_dim(step: Step, name: str, size: int, full: int) -> None:
    function = step.launch.instance.function
    leading = all(
        name not in extent.dims() or (axis == 0 and extent == Dim(name))
        for array in function.arrays
        for axis, extent in enumerate(array.shape)
    )
    possible = isinstance(size, int | np.integer) and not isinstance(size, bool) and 0 <= size <= full
    if not possible or not leading or name in step.launch.instance.tile_dims:
        raise ZelligeError(
            "ZL0521", f"{function.name}: dim {name} = {full} cannot be resized to {size} in a recorded graph"
        )
