"""Breaks the library's kernels in their IR, one small change at a time.

Every mutant must be refused by the verifier, or be harmless: no launch at small sizes trips the interpreter.
``python -m tests.fuzz.mutation --log FILE`` prints what became of the mutants, by kernel; it exits 1 if one is accepted and trips,
or is accepted and could not be launched. ``FILE`` keeps a line for each mutant, so that a run goes on where another stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np

from tests.fuzz import arguments, campaign
from tests.fuzz.arguments import Impossible
from zellige.backends.reference import LaunchRefused, Violation, run
from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir import dtypes, ops, spec
from zellige.ir.extent import Const
from zellige.ir.ops import BinaryOp, Function, GridAxis, Op, Value
from zellige.ir.types import INDEX, ArrayParam, Contract, Role
from zellige.ir.walk import Rewriter, walk

Edit = Callable[[Op], "list[Op] | None"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed kernel and what was changed."""

    function: Function
    change: str


class _Editor(Rewriter):
    """Copies a function with one operation, the n-th, replaced by what ``edit`` makes of it."""

    def __init__(self, target: Op, edit: Edit) -> None:
        super().__init__()
        self.target = target
        self.edit = edit

    def op(self, old: Op) -> list[Op]:
        if old is not self.target:
            return [self.copy(old)]
        edited = self.edit(old)
        assert edited is not None
        return [self.copy(op) for op in edited]


def mutants(function: Function) -> Iterator[Mutant]:
    """All single changes of a function, each well formed."""
    for change, mutant in _all(function):
        try:
            spec.check(mutant)
        except InternalError:
            continue  # a change that is no program says nothing about the verifier
        yield Mutant(mutant, f"{function.name}: {change}")


def _all(function: Function) -> Iterator[tuple[str, Function]]:
    for op in walk(function.body):
        for name, edit in EDITS.items():
            edited = edit(op)
            if edited is not None:
                body = _Editor(op, edit).block(function.body)
                yield f"{name} ({type(op).__name__} at line {op.span.line})", replace(function, body=body)
        if isinstance(op, ops.Load | ops.Store | ops.Update):
            yield from _access(function, op)
    yield from _signature(function)


def _access(function: Function, op: ops.Load | ops.Store | ops.Update) -> Iterator[tuple[str, Function]]:
    """Changes of one memory operation."""
    where = f"{type(op).__name__} of {op.array} at line {op.span.line}"
    for i in range(len(op.masks)):
        kept = (*op.masks[:i], *op.masks[i + 1 :])
        yield f"mask {i} dropped ({where})", _changed(function, op, lambda o, kept=kept: [replace(o, masks=kept)])
    for i in range(len(op.index)):
        for by in (1, -1):
            yield f"index {i} moved by {by} ({where})", _changed(function, op, lambda o, i=i, by=by: _moved(o, i, by))
        for j in range(i):
            swapped = list(op.index)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield (
                f"axes {j} and {i} swapped ({where})",
                _changed(function, op, lambda o, s=tuple(swapped): [replace(o, index=s)]),
            )
        zero = Value(INDEX)
        yield (
            f"index {i} is 0 ({where})",
            _changed(
                function,
                op,
                lambda o, i=i, z=zero: [
                    ops.Constant(value=0, result=z, span=o.span),
                    replace(o, index=(*o.index[:i], z, *o.index[i + 1 :])),
                ],
            ),
        )
    if isinstance(op, ops.Store):
        yield f"dropped ({where})", _changed(function, op, lambda o: [])


def _moved(op: ops.Load | ops.Store | ops.Update, axis: int, by: int) -> list[Op]:
    """The operation with one index moved."""
    old = op.index[axis]
    one, wide, moved = Value(INDEX), Value(old.type), Value(old.type)
    made: list[Op] = [ops.Constant(value=by, result=one, span=op.span)]
    addend = one
    if old.type.rank:
        made.append(ops.Broadcast(x=one, result=wide, span=op.span))
        addend = wide
    made.append(ops.Binary(op=BinaryOp.ADD, x=old, y=addend, result=moved, span=op.span))
    return [*made, replace(op, index=(*op.index[:axis], moved, *op.index[axis + 1 :]))]


def _changed(function: Function, op: Op, edit: Edit) -> Function:
    return replace(function, body=_Editor(op, edit).block(function.body))


def _signature(function: Function) -> Iterator[tuple[str, Function]]:
    """Looser contracts, another role, other extents, another grid."""
    for i, array in enumerate(function.arrays):

        def with_array(new, i=i):  # type: ignore[no-untyped-def]
            return replace(function, arrays=(*function.arrays[:i], new, *function.arrays[i + 1 :]))

        if array.contract is not None:
            for what, contract in _looser(array.contract):
                yield f"{array.name}: {what}", with_array(replace(array, contract=contract))
        if array.role is Role.MUT:
            yield f"{array.name} becomes Out", with_array(replace(array, role=Role.OUT))
        for axis, extent in enumerate(array.shape):
            for by in (1, -1):
                shape = (*array.shape[:axis], extent + by, *array.shape[axis + 1 :])
                yield f"axis {axis} of {array.name} by {by}", with_array(replace(array, shape=shape))
    for i, scalar in enumerate(function.scalars):
        if scalar.contract is not None:
            for what, contract in _looser(scalar.contract):
                scalars = (*function.scalars[:i], replace(scalar, contract=contract), *function.scalars[i + 1 :])
                yield f"{scalar.name}: {what}", replace(function, scalars=scalars)
    for i, axis in enumerate(function.grid):
        for by in (1, -1):
            changed = replace(axis, programs=axis.programs + by, tile=None)
            yield (
                f"grid axis {i} by {by}",
                replace(function, grid=(*function.grid[:i], changed, *function.grid[i + 1 :])),
            )


def _looser(contract: Contract) -> Iterator[tuple[str, Contract]]:
    yield "bound + 1", replace(contract, bound=contract.bound + 1)
    if contract.distinct:
        yield "not distinct", replace(contract, distinct=False)
    if not contract.optional:
        yield "optional", replace(contract, optional=True)


def _binary(old: BinaryOp, new: BinaryOp) -> Edit:
    def edit(op: Op) -> list[Op] | None:
        index = isinstance(op, ops.Binary) and op.op is old and op.x.type.dtype in (dtypes.index, dtypes.bool_)
        return [replace(op, op=new)] if index else None

    return edit


def _constant(by: int) -> Edit:
    def edit(op: Op) -> list[Op] | None:
        if isinstance(op, ops.Constant) and op.result.type.dtype is dtypes.index:
            return [replace(op, value=int(op.value) + by)]
        return None

    return edit


def _no_require(op: Op) -> list[Op] | None:
    return [] if isinstance(op, ops.Require) else None


def _branch(op: Op) -> list[Op] | None:
    """An If whose condition is always true."""
    if not isinstance(op, ops.If):
        return None
    true = Value(op.condition.type)
    return [ops.Constant(value=True, result=true, span=op.span), replace(op, condition=true)]


def _longer(op: Op) -> list[Op] | None:
    if not isinstance(op, ops.For):
        return None
    one, upper = Value(INDEX), Value(INDEX)
    return [
        ops.Constant(value=1, result=one, span=op.span),
        ops.Binary(op=BinaryOp.ADD, x=op.upper, y=one, result=upper, span=op.span),
        replace(op, upper=upper),
    ]


def _reversed_select(op: Op) -> list[Op] | None:
    index = isinstance(op, ops.Select) and op.x.type.dtype is dtypes.index
    return [replace(op, x=op.y, y=op.x)] if index else None


EDITS: dict[str, Edit] = {
    "< becomes <=": _binary(BinaryOp.LT, BinaryOp.LE),
    "<= becomes <": _binary(BinaryOp.LE, BinaryOp.LT),
    "> becomes >=": _binary(BinaryOp.GT, BinaryOp.GE),
    ">= becomes >": _binary(BinaryOp.GE, BinaryOp.GT),
    "// becomes %": _binary(BinaryOp.FLOORDIV, BinaryOp.MOD),
    "% becomes //": _binary(BinaryOp.MOD, BinaryOp.FLOORDIV),
    "min becomes max": _binary(BinaryOp.MIN, BinaryOp.MAX),
    "max becomes min": _binary(BinaryOp.MAX, BinaryOp.MIN),
    "+ becomes -": _binary(BinaryOp.ADD, BinaryOp.SUB),
    "- becomes +": _binary(BinaryOp.SUB, BinaryOp.ADD),
    "and becomes or": _binary(BinaryOp.AND, BinaryOp.OR),
    "constant + 1": _constant(1),
    "constant - 1": _constant(-1),
    "precondition dropped": _no_require,
    "branch always taken": _branch,
    "one more iteration": _longer,
    "select reversed": _reversed_select,
}
"""Changes of single operations; None where they do not apply."""


def library(largest_static: int = 4, *, every_dtype: bool = False) -> Iterator[Function]:
    """An instance of each library kernel, or one for each choice of dtypes, with small tiles so that small sizes have several."""
    import importlib
    import pkgutil

    import zellige.kernels
    from zellige.runtime.kernel import Kernel

    for found in pkgutil.iter_modules(zellige.kernels.__path__):
        module = importlib.import_module(f"zellige.kernels.{found.name}")
        for kernel in vars(module).values():
            if isinstance(kernel, Kernel) and kernel.__module__ == module.__name__:
                first = {
                    tuple(sorted(bindings.items())): (statics, bindings)
                    for statics, bindings in [*kernel.variants()][::-1]
                }
                for statics, bindings in list(first.values())[::-1][: None if every_dtype else 1]:
                    small = {k: min(v, largest_static) if type(v) is int else v for k, v in statics.items()}
                    try:
                        yield kernel.lower(small, bindings)
                    except ZelligeError:
                        yield kernel.lower(statics, bindings)  # its statics have a relation that small ones break


LAUNCHED = 10
"""A mutant that fewer launches than this ran programs of is not said to be harmless."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What launches of a function at random small sizes showed."""

    trip: str | None
    launches: int
    """How many had programs to run."""


def _admitted(function: Function, rng: np.random.Generator) -> dict[str, int]:
    """Random small sizes that the kernel's preconditions admit, if some are found: a launch of no programs tells."""
    gate = replace(function, arrays=(), grid=(GridAxis(Const(0), None, Const(0)),))
    dims: dict[str, int] = {}
    for _ in range(100):
        largest = 6 if rng.random() < 0.7 else 9
        dims = {name: 0 if rng.random() < 0.06 else int(rng.integers(1, largest)) for name in sorted(function.dims())}
        for array in function.arrays:
            if array.dtype.is_block:
                dims |= _whole_blocks(array, dims, rng)
        try:
            run(gate, dims, {}, arguments.scalars(function, dims, rng))
        except (Impossible, LaunchRefused):
            continue
        break
    return dims


def _whole_blocks(array: ArrayParam, dims: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
    """Sizes with which an array's last axis is a few whole blocks, if one of its dims can make it that."""
    size, last = array.dtype.block, array.shape[-1]
    for name in sorted(last.dims()):
        fit = [
            n for n in range(2 * size + 2) if 0 < (e := last.evaluate(dims | {name: n})) <= 2 * size and e % size == 0
        ]
        if fit:
            return {name: int(rng.choice(fit))}
    return {}


def trial(function: Function, seed: int, count: int) -> Trial:
    """Launches a function until it goes wrong, or ``count`` launches have had programs to run (or cannot be found)."""
    rng = np.random.default_rng(seed)
    launches = 0
    for _ in range(6 * count):
        if launches == count:
            break
        dims = _admitted(function, rng)
        try:
            given = arguments.draw(function, dims, rng)
            report = run(function, given.dims, given.arrays, given.scalars, order_seed=int(rng.integers(1 << 30)))
            launches += report.programs > 0
        except (Impossible, LaunchRefused):
            continue
        except Violation as violation:
            return Trial(f"{violation} with dims {dims}", launches + 1)
    return Trial(None, launches)


# --- a run, which may go on from another


def instance(function: Function) -> str:
    """The name of a kernel with the element types of its arguments."""
    return " ".join((function.name, *(str(p.dtype) for p in (*function.arrays, *function.scalars))))


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant: the ``number``-th of an instance."""

    instance: str
    number: int
    fate: str
    change: str
    why: str = ""

    def line(self) -> str:
        """As it stands in a log."""
        return "\t".join((self.instance, str(self.number), self.fate, self.change, " ".join(self.why.split())))


def logged(path: Path) -> list[Result]:
    """The results that a log has."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Result(name, int(number), fate, change, why)
        for name, number, fate, change, why in (l.split("\t") for l in lines)
    ]


def judged(mutant: Mutant, seed: int, launches: int) -> tuple[str, str]:
    """What becomes of a mutant, and what shows it."""
    proved, _ = campaign.by_verifier(mutant.function)
    if not proved:
        return "refused", ""
    tried = trial(mutant.function, seed, launches)
    if tried.trip:
        return "UNSOUND", tried.trip
    return "harmless" if tried.launches >= LAUNCHED else "NOT LAUNCHED", f"{tried.launches} launches had programs"


def main() -> int:
    """Mutates every library kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="keep results in this file, and go on from what it has")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--launches", type=int, default=60, help="launches of each accepted mutant")
    parser.add_argument("--kernel", help="only this one")
    parser.add_argument("--every-dtype", action="store_true", help="every choice of dtypes, the first ones last")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    started = monotonic()
    functions = [f for f in library(every_dtype=options.every_dtype) if options.kernel in (None, f.name)]
    first = {f.name: instance(f) for f in reversed(functions)}
    functions.sort(key=lambda f: first[f.name] == instance(f))
    results = logged(options.log)
    done = {(r.instance, r.number) for r in results}
    complete: list[str] = []
    for function in functions:
        name, late = instance(function), False
        for number, mutant in enumerate(mutants(function)):
            late = monotonic() - started > options.seconds
            if late:
                break
            if (name, number) in done:
                continue
            fate, why = judged(mutant, options.seed, options.launches)
            result = Result(name, number, fate, mutant.change, why)
            results.append(result)
            with options.log.open("a") as log:
                log.write(result.line() + "\n")
        if late:
            break
        complete.append(name)
        own = Counter(r.fate for r in results if r.instance == name)
        print(f"{name:60} " + ", ".join(f"{n} {what}" for what, n in sorted(own.items())), flush=True)
    for result in results:
        if result.fate not in ("refused", "harmless"):
            print(f"{result.fate} {result.instance}: {result.change}\n  {result.why}", flush=True)
    counts = Counter(r.fate for r in results)
    print(
        f"{len(complete)} of {len(functions)} instances: "
        + ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
    )
    return 1 if counts["UNSOUND"] or counts["NOT LAUNCHED"] else 0


if __name__ == "__main__":
    sys.exit(main())
