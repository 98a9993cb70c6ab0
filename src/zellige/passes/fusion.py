"""Two kernels as one: the producer's body goes into its consumer, and what one stored for the other stays in registers.

Four ways, tried in order, each by what can be *shown* (``fusion_identity.py``), never assumed:

1. **beside**: the grids are equal. Program p does what program p of the producer did, then what program p of the consumer did. A
   load of what the producer stored under the same index becomes the stored value. That running the two one after the
   other in each program means the same as running all of the one before all of the other is what the verifier
   proves of the result: no program reads or writes what another one writes.
2. **onto**: the consumer is a function of coordinates. It is computed where the producer stores, on the producer's tiles.
3. **again**: each program of the consumer needs whole programs of the producer, maybe several (one for each iteration), which
   others need, too. They are computed again where they are loaded.
4. **by element**: the producer is a function of coordinates. It is computed again at the coordinates that are loaded, whatever
   the tiles. What a function of coordinates is, is in ``fusion_elements.py``.

An array between the two is dropped if nothing else reads it. The result is an ordinary function, to be verified as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from zellige.diagnostics.span import Span
from zellige.ir import ops
from zellige.ir.extent import Const
from zellige.ir.ops import Block, Function, Value
from zellige.ir.types import INDEX, ArrayParam, Role
from zellige.ir.walk import blocks, definitions, results, walk
from zellige.passes.fusion_elements import element, whole
from zellige.passes.fusion_identity import Identity
from zellige.passes.fusion_names import FusionError, Names, Parameters, common_names
from zellige.passes.fusion_writer import Copy, Page, requirements, stores_of
from zellige.passes.simplify import has_effect, without_dead_code

__all__ = ["FusionError", "Names", "Parameters", "common_names", "fuse"]


def fuse(
    producer: Function, consumer: Function, names: Names, *, keep: Collection[str] = (), name: str = ""
) -> Function:
    """The kernel that does what ``producer`` and then ``consumer`` do.

    ``names``: of ``common_names``. ``keep``: arrays (by their new names) that others read, too. ``name``: of the result. FusionError
    ZL0531 (arrays that do not pair), ZL0532 (what is read is not shown to be what was stored), ZL0533 (grids that do not fit).
    """
    pair = _Pair.of(names.first(producer), names.second(consumer), names.shared, frozenset(keep))
    problems = []
    for way in (_beside, _onto, _again, _by_element):
        try:
            return replace(way(pair), name=name or f"{producer.name}_then_{consumer.name}")
        except FusionError as problem:
            problems.append(problem)
    raise min(
        problems, key=lambda problem: problem.code
    )  # what is wrong with the arrays, then with a value, then with the grids


@dataclass(frozen=True)
class _Pair:
    """Two kernels in one namespace."""

    first: Function
    second: Function
    fed: frozenset[str]
    """Arrays that the first writes and the second reads."""
    shared: frozenset[str]
    keep: frozenset[str]
    constant: frozenset[str]
    """Arrays that neither writes."""

    @classmethod
    def of(cls, first: Function, second: Function, shared: frozenset[str], keep: frozenset[str]) -> _Pair:
        for function in (first, second):
            if function.unsafe:
                raise FusionError(
                    "ZL0532", f"'{function.name}' has a zl.unsafe block, where nothing is proved: not that one program sees what it "
                    "would have seen, either", span=function.unsafe[0].span, help="run the two one after the other",
                )  # fmt: skip
        roles = {a.name: a.role for a in first.arrays}
        for array in second.arrays:
            if array.name in shared:
                _check_pair(first, second, first.array(array.name), array)
        fed = {
            a.name for a in second.arrays if a.role in (Role.IN, Role.MUT) and roles.get(a.name, Role.IN) is not Role.IN
        }
        written = {a.name for f in (first, second) for a in f.arrays if a.role is not Role.IN}
        for one, other in ((first, second), (second, first)):
            if any(isinstance(op, ops.Segment) and op.array in written for op in walk(one.body)):
                raise FusionError(
                    "ZL0532", f"'{one.name}' searches offsets that '{other.name}' writes", span=one.span,
                    help="run the two one after the other",
                )  # fmt: skip
        every = {a.name for f in (first, second) for a in f.arrays}
        return cls(first, second, frozenset(fed), shared, keep, frozenset(every - written))

    def page(self) -> Page:
        return Page(self.constant)

    def last_store(self, array: str) -> ops.Store:
        """The producer's last store to an array. FusionError ZL0532 if a loop or a branch makes it."""
        stores = [s for s in stores_of(self.first.body) if s.array == array]
        last = stores[-1] if stores else None
        if not isinstance(last, ops.Store) or last not in self.first.body.ops:
            where = last.span if last is not None else self.first.span
            raise FusionError(
                "ZL0532", f"what '{self.first.name}' stores to '{array}' is stored in a loop or on one path only",
                span=where, help="store once, at the end of the kernel",
            )  # fmt: skip
        return last

    def loads(self) -> Iterator[tuple[ops.Load, bool]]:
        """The consumer's loads of what the producer writes, each with whether the consumer may have written it before."""
        yield from _loads(self.second.body, self.fed, set())

    def unlike(self, load: ops.Load, why: str) -> FusionError:
        """The refusal of a load that is not shown to be what was stored."""
        return FusionError(
            "ZL0532", f"what '{self.second.name}' reads of '{load.array}' is not shown to be what one program of "
            f"'{self.first.name}' stored", span=load.span, facts={"because": why},
            help=f"read the tiles that '{self.first.name}' stores, or make '{load.array}' a function of its coordinates",
        )  # fmt: skip


def _check_pair(first: Function, second: Function, a: ArrayParam, b: ArrayParam) -> None:
    """FusionError ZL0531 unless two arrays can be one."""
    if a.dtype is not b.dtype:
        raise FusionError(
            "ZL0531", f"'{a.name}' holds {a.dtype} in '{first.name}' and {b.dtype} in '{second.name}'",
            help="convert in one of them: what is stored is rounded to the array's element type",
        )  # fmt: skip
    if Role.ACC in (a.role, b.role):
        raise FusionError(
            "ZL0531", f"'{a.name}' is an accumulator: its value is there when all programs have ended",
            help="run the two one after the other",
        )  # fmt: skip
    given, wanted = a.contract, b.contract
    if wanted != given:
        raise FusionError(
            "ZL0531", f"'{a.name}' holds {given or 'any value'} in '{first.name}' and {wanted or 'any value'} in '{second.name}'",
            help="give both the same contract",
        )  # fmt: skip


def _loads(block: Block, fed: frozenset[str], written: set[str]) -> Iterator[tuple[ops.Load, bool]]:
    for op in block.ops:
        inside = {s.array for b in blocks(op) for s in stores_of(b)}
        if not isinstance(op, ops.If):
            written |= inside  # the next iteration reads what this one wrote
        if isinstance(op, ops.Load) and op.array in fed:
            yield op, op.array in written
        for inner in blocks(op):
            yield from _loads(inner, fed, set(written))
        if isinstance(op, ops.Store | ops.Update):
            written.add(op.array)
        written |= inside


# --- 1. the same programs
def _beside(pair: _Pair) -> Function:
    axes = _axes_beside(pair)
    identity = Identity(pair.first, pair.second, pair.constant, axes)
    replaced: dict[ops.Load, ops.Store] = {}
    for load, written in pair.loads():
        uninitialised = pair.first.array(load.array).role is Role.OUT
        if not written and _is_stored_beside(pair, identity, load, uninitialised):
            replaced[load] = pair.last_store(load.array)
        elif uninitialised:
            raise pair.unlike(load, "it was written again before" if written else "its index is made in another way")
    dropped = {s for name in pair.fed for s in _dead_stores(pair, identity, name, replaced)}
    page = pair.page()
    body = page.open()
    first = Copy(page)
    first.renumbered = axes
    for op in pair.first.body.ops:
        if op not in dropped:
            first.write(op)
    second = Copy(page)
    second.loads, second.stored = replaced, first
    second.mapping.update((theirs, first.value(mine)) for theirs, mine in identity.equal.items())
    matched = set(identity.equal.values())
    iotas = [op.result for op in pair.first.body.ops if isinstance(op, ops.Iota) and op.result not in matched]
    second.lanes = [first.value(iota) for iota in iotas]
    for op in pair.second.body.ops:
        second.write(op)
    page.close()
    return _assembled(pair, Block((), body))


def _axes_beside(pair: _Pair) -> dict[int, int]:
    """Which axis of the consumer's grid each of the producer's is. FusionError ZL0533 if the grids are not equal."""
    left, right = pair.first.grid, pair.second.grid
    found: dict[int, int] = {}
    made = definitions(pair.second.body)
    for load, written in pair.loads():
        identity = Identity(pair.first, pair.second, pair.constant)
        if written or not any(s.array == load.array and s in pair.first.body.ops for s in stores_of(pair.first.body)):
            continue
        if identity.stored(pair.last_store(load.array), load):
            programs = {axis: made.get(value) for axis, value in identity.axes.items()}
            found = {axis: op.axis for axis, op in programs.items() if isinstance(op, ops.ProgramId)}
            break
    rest = [axis for axis in range(len(right)) if axis not in found.values()]
    for axis in range(len(left)):
        if axis not in found and rest:
            found[axis] = axis if axis in rest else rest[0]
            rest.remove(found[axis])
    one_to_one = len(left) == len(right) == len(set(found.values()))
    if one_to_one and all(left[a].programs == right[b].programs for a, b in found.items()):
        return found
    grids = [", ".join(str(axis.programs) for axis in grid) or "one program" for grid in (left, right)]
    raise FusionError(
        "ZL0533", f"'{pair.first.name}' and '{pair.second.name}' have different grids", span=pair.second.span,
        facts={pair.first.name: grids[0], pair.second.name: grids[1]},
        help="give both the same tiles",
    )  # fmt: skip


def _is_stored_beside(pair: _Pair, identity: Identity, load: ops.Load, must: bool) -> bool:
    """Whether a load gives what the same program of the producer stored last."""
    try:
        return identity.stored(pair.last_store(load.array), load)
    except FusionError:
        if must:
            raise
        return False


def _dead_stores(
    pair: _Pair, identity: Identity, array: str, replaced: Mapping[ops.Load, ops.Store]
) -> list[ops.Store | ops.Update]:
    """The producer's stores to an array that need not happen: nothing reads them, or the consumer overwrites them."""
    stores = [s for s in stores_of(pair.first.body) if s.array == array]
    if any(load.array == array and load not in replaced for load, _ in pair.loads()) or not all(
        s in pair.first.body.ops for s in stores
    ):
        return []
    if any(isinstance(op, ops.Load | ops.Segment) and op.array == array for op in walk(pair.first.body)):
        return []
    later = pair.second.array(array).role
    if later is Role.IN:
        temporary = pair.first.array(array).role is Role.OUT and array not in pair.keep
        return list(stores) if temporary else []
    over = [op for op in pair.second.body.ops if isinstance(op, ops.Store) and op.array == array]
    return [s for s in stores if isinstance(s, ops.Store) and any(identity.overwritten(s, o) for o in over)]


# --- 2. the consumer, on the producer's tiles
def _onto(pair: _Pair) -> Function:
    last = _only_store(pair)
    store = pair.last_store(_only_fed(pair))
    if [s for s in stores_of(pair.first.body) if s.array == store.array] != [store]:
        raise FusionError(
            "ZL0532", f"'{pair.first.name}' stores to '{store.array}' more than once", span=store.span,
            help="store once, at the end of the kernel",
        )  # fmt: skip
    if pair.first.array(store.array).role is not Role.OUT and not whole(pair.first, store):
        raise FusionError(
            "ZL0532", f"'{pair.first.name}' may leave elements of '{store.array}' as they were", span=store.span,
            help=f"make '{store.array}' an Out",
        )  # fmt: skip
    later = Block((), pair.first.body.ops[pair.first.body.ops.index(store) + 1 :])
    if last.array == store.array and any(isinstance(op, ops.Load) and op.array == store.array for op in walk(later)):
        raise FusionError(
            "ZL0532", f"'{pair.second.name}' overwrites '{store.array}', which '{pair.first.name}' reads after its store",
            span=store.span, help="give both kernels the same grid",
        )  # fmt: skip
    shapes = {n: f.array(n).shape for f, n in ((pair.first, store.array), (pair.second, last.array))}
    if len(set(shapes.values())) > 1:
        raise FusionError(
            "ZL0533", f"'{pair.second.name}' stores another number of elements than '{pair.first.name}'", span=last.span,
            facts={name: f"({', '.join(map(str, shape))})" for name, shape in shapes.items()},
            help="give both kernels the same grid",
        )  # fmt: skip
    written = {a.name for a in pair.second.arrays if a.role is not Role.IN} - {store.array}
    if touched := {a.name for a in pair.first.arrays} & written:
        raise FusionError(
            "ZL0533", f"'{pair.second.name}' writes '{min(touched)}', which '{pair.first.name}' uses", span=last.span,
            help="give both kernels the same grid",
        )  # fmt: skip
    page = pair.page()
    body = page.open()
    copy = Copy(page)
    for op in requirements(pair.second.body):
        copy.write(op)
    first = Copy(page)
    dropped = store.array not in pair.keep and pair.first.array(store.array).role is Role.OUT
    for op in pair.first.body.ops:
        if op is not store or not (dropped or last.array == store.array):
            first.write(op)
        if op is store:
            index, masks = ([first.value(v) for v in values] for values in (store.index, store.masks))
            found = element(page, pair.second, last, store, index, masks, (store.array, first.value(store.value)))
            if isinstance(found, str):
                raise FusionError(
                    "ZL0533", f"'{pair.first.name}' and '{pair.second.name}' have different tiles, and '{pair.second.name}' is no "
                    "function of coordinates", span=last.span, facts={"because": found}, help="give both the same tiles",
                )  # fmt: skip
            value = page.stretched(found, store.value.type.shape, last.span)
            page.put(ops.Store(array=last.array, index=tuple(index), masks=tuple(masks), value=value, span=last.span))
    page.close()
    return _assembled(pair, Block((), body), pair.first)


def _only_fed(pair: _Pair) -> str:
    """The array between two kernels. FusionError ZL0533 if there are several, or none."""
    if len(pair.fed) == 1:
        return next(iter(pair.fed))
    raise FusionError(
        "ZL0533", f"'{pair.second.name}' reads {len(pair.fed)} arrays that '{pair.first.name}' writes, and their grids differ",
        span=pair.second.span, help="give both the same grid",
    )  # fmt: skip


def _only_store(pair: _Pair) -> ops.Store:
    """The consumer's store, if it makes one, to every element of an array. FusionError ZL0533 otherwise."""
    second = pair.second
    effects = [op for op in second.body.ops if has_effect(op) and not isinstance(op, ops.Require)]
    if len(effects) == 1 and isinstance(effects[0], ops.Store) and whole(second, effects[0]):
        return effects[0]
    raise FusionError(
        "ZL0533", f"'{pair.first.name}' and '{second.name}' have different tiles, and '{second.name}' is more than one store to every "
        "element of an array", span=second.span, help="give both the same tiles",
    )  # fmt: skip


# --- 3. and 4. what the producer stored, computed again: by its programs, or element by element
def _again(pair: _Pair) -> Function:
    for store in stores_of(pair.first.body):
        if (
            store not in pair.first.body.ops
        ):  # it would be copied with the loop or branch around it, and be the only one left
            raise FusionError(
                "ZL0533", f"'{pair.first.name}' would run once for each program of '{pair.second.name}' that needs it",
                span=store.span, facts={"but": f"it stores to '{store.array}' in a loop or on one path only"},
                help="give both kernels the same grid",
            )  # fmt: skip
    return _recomputed(pair, _Programs)


def _by_element(pair: _Pair) -> Function:
    return _recomputed(pair, _Elements)


def _recomputed(pair: _Pair, way: type[_Recomputing]) -> Function:
    _check_repeatable(pair)
    page = pair.page()
    second = way(page, pair)
    body = page.open()
    second.requirements()
    for op in pair.second.body.ops:
        second.write(op)
    page.close()
    return _assembled(pair, Block((), body))


def _check_repeatable(pair: _Pair) -> None:
    """FusionError ZL0533 if more programs than its own cannot do what the producer does."""
    for array in pair.first.arrays:
        problem = None
        if array.role is not Role.IN and array.name not in pair.fed:
            problem = f"it also writes '{array.name}'"
        elif array.role is not Role.IN and (array.role is not Role.OUT or array.name in pair.keep):
            problem = f"'{array.name}' is read by others, too"
        elif array.role is Role.IN and array.name not in pair.constant:
            problem = f"'{pair.second.name}' writes '{array.name}', which it reads"
        elif array.name in pair.fed and pair.second.array(array.name).role is not Role.IN:
            problem = f"'{pair.second.name}' writes '{array.name}' as well"
        if problem is not None:
            raise FusionError(
                "ZL0533", f"'{pair.first.name}' would run once for each program of '{pair.second.name}' that needs it",
                span=pair.first.span, facts={"but": problem}, help="give both kernels the same grid",
            )  # fmt: skip
    guard = next((op for op in walk(pair.first.body) if isinstance(op, ops.Guard)), None)
    if guard is not None:
        raise FusionError(
            "ZL0533", f"'{pair.first.name}' has a zl.guard, which each of its own programs meets once", span=guard.span,
            help="give both kernels the same grid",
        )  # fmt: skip
    if not pair.fed:
        raise FusionError(
            "ZL0533", f"'{pair.second.name}' reads nothing that '{pair.first.name}' writes, and their grids differ",
            span=pair.second.span, help="give both the same grid to run them side by side",
        )  # fmt: skip


class _Recomputing(Copy):
    """Copies the consumer; where it loads what the producer stored, that is computed."""

    def __init__(self, page: Page, pair: _Pair) -> None:
        super().__init__(page)
        self.pair = pair

    def requirements(self) -> None:
        """Writes what the producer requires."""
        copy = Copy(self.page)
        for op in requirements(self.pair.first.body):
            copy.write(op)


class _Programs(_Recomputing):
    """Copies the consumer; where it loads what the producer stored, the program that stored it is copied."""

    def __init__(self, page: Page, pair: _Pair) -> None:
        super().__init__(page, pair)
        self.made: list[dict[tuple[object, ...], Copy]] = [{}]
        """By the open blocks: the copies of the producer that are there."""
        self.loops = {op.body.params[0]: op for op in walk(pair.second.body) if isinstance(op, ops.For)}
        self.defined = definitions(pair.second.body)

    def block(self, old: Block) -> Block:
        self.made.append({})
        new = super().block(old)
        self.made.pop()
        return new

    def replaced(self, load: ops.Load) -> bool:
        pair = self.pair
        if load.array not in pair.fed:
            return False
        store = pair.last_store(load.array)
        identity = Identity(pair.first, pair.second, pair.constant)
        if not identity.stored(store, load):
            raise pair.unlike(load, "its index is made in another way")
        axes = {}
        for axis, programs in enumerate(pair.first.grid):
            value = identity.axes.get(axis)
            if value is not None:
                self._check_in_grid(load, axis, value)
                axes[axis] = self.value(value)
            elif programs.programs == Const(1):
                axes[axis] = self.page.make(ops.Constant, INDEX.dtype, (), load.span, value=0)
            else:
                raise pair.unlike(load, f"nothing says which program of axis {axis} stored it")
        copy = self._copy(store, axes, {mine: self.value(theirs) for theirs, mine in identity.equal.items()})
        masks = [self.value(m) for m in load.masks]
        self.mapping[load.result] = self.page.loaded(load, masks, copy.value(store.value), load.result.type.shape)
        return True

    def _check_in_grid(self, load: ops.Load, axis: int, value: Value) -> None:
        """FusionError ZL0532 unless a value of the consumer is always an id of a program of the producer."""
        programs = self.pair.first.grid[axis].programs
        op = self.defined.get(value)
        if isinstance(op, ops.ProgramId) and self.pair.second.grid[op.axis].programs == programs:
            return
        loop = self.loops.get(value)
        if loop is not None:
            lower, upper = self.defined.get(loop.lower), self.defined.get(loop.upper)
            from_zero = isinstance(lower, ops.Constant) and lower.value == 0 and loop.step > 0
            count = upper.extent if isinstance(upper, ops.ExtentValue) else None
            if isinstance(upper, ops.Constant):
                count = Const(int(upper.value))
            if from_zero and count == programs:
                return
        raise self.pair.unlike(
            load,
            f"axis {axis} of the grid of '{self.pair.first.name}' has {programs} programs, which it may not be one of",
        )

    def _copy(self, store: ops.Store, axes: Mapping[int, Value], equal: Mapping[Value, Value]) -> Copy:
        """The producer's program with these ids, up to a store; made once where it can be seen."""
        key = (
            store,
            *sorted((axis, value.id) for axis, value in axes.items()),
            *sorted((a.id, b.id) for a, b in equal.items()),
        )
        for known in reversed(self.made):
            if key in known:
                return known[key]
        copy = self.made[-1][key] = Copy(self.page, axes)
        copy.mapping.update(equal)
        for op in self.pair.first.body.ops:
            if op is store:
                break
            if not isinstance(op, ops.Store | ops.Require):
                copy.write(op)
        return copy


class _Elements(_Recomputing):
    """Copies the consumer; where it loads what the producer stored, its elements are computed."""

    def replaced(self, load: ops.Load) -> bool:
        if load.array not in self.pair.fed:
            return False
        store = self.pair.last_store(load.array)
        if [s for s in stores_of(self.pair.first.body) if s.array == load.array] != [store]:
            raise self.pair.unlike(load, f"'{self.pair.first.name}' stores to it more than once")
        index, masks = ([self.value(v) for v in values] for values in (load.index, load.masks))
        found = element(self.page, self.pair.first, store, load, index, masks)
        if isinstance(found, str):
            raise self.pair.unlike(load, found)
        self.mapping[load.result] = self.page.loaded(load, masks, found, load.result.type.shape)
        return True


# --- the result
def _assembled(pair: _Pair, body: Block, grid: Function | None = None) -> Function:
    """The function around a body: parameters with the ownership that is left, and the grid of ``grid`` (the consumer)."""
    body = without_dead_code(body)
    loaded = {op.array for op in walk(body) if isinstance(op, ops.Load | ops.Segment)}
    stored = {s.array for s in stores_of(body)}
    arrays = []
    for array in (*pair.first.arrays, *(a for a in pair.second.arrays if a.name not in pair.shared)):
        other = pair.second.array(array.name) if array.name in pair.shared else None
        if other is not None:
            if array.name in pair.fed and not {array.name} & (loaded | stored):
                continue
            array = _joined(pair, array, other, array.name in loaded, array.name in stored)
        arrays.append(array)
    first, second = pair.first, pair.second
    fused = Function(
        second.name, tuple(arrays), (*first.scalars, *second.scalars), (grid or second).grid, body, second.span,
        group=(grid or second).group, index_bits=min(first.index_bits, second.index_bits),
        source="\n".join(part for part in (first.source, second.source) if part),
    )  # fmt: skip
    for op in walk(body):
        extents = [extent for value in results(op) for extent in value.type.shape]
        extents += [op.extent] if isinstance(op, ops.ExtentValue) else []
        if lost := {dim for extent in extents for dim in extent.dims()} - fused.dims():
            raise FusionError(
                "ZL0531", f"no array that is left has an axis that tells dim {min(lost)}", span=op.span,
                help="keep an array that has it: keep=[…]",
            )  # fmt: skip
    return fused


def _joined(pair: _Pair, a: ArrayParam, b: ArrayParam, loaded: bool, stored: bool) -> ArrayParam:
    """The parameter for an array that both kernels have."""
    written = b if b.role is not Role.IN else a
    if not stored:
        return replace(a, role=Role.IN, contract=a.contract or b.contract)
    if not loaded:
        role = Role.OUT if Role.OUT in (a.role, b.role) else Role.MUT
        return replace(written, role=role)
    if a.role is Role.OUT:
        raise FusionError(
            "ZL0532", f"'{pair.second.name}' still reads '{a.name}' from memory that holds nothing when it starts",
            span=_place(pair.second, a.name), help="read the tiles that are stored",
        )  # fmt: skip
    return replace(written, role=Role.MUT)


def _place(function: Function, array: str) -> Span:
    """Where a kernel first loads an array."""
    return next(
        (op.span for op in walk(function.body) if isinstance(op, ops.Load) and op.array == array), function.span
    )
