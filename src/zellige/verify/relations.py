"""Outputs whose contract relates their elements: ``Offsets``, ``Permutation`` and ``Index[…, distinct]``.

Three rules establish such a contract for an ``Out``:

- *constructed*: one program stores a whole tile whose making implies it: ``zl.offsets`` is a running sum to its total, the
  order of ``zl.sort`` holds every position once. A running sum of no lengths has one element, so that must be excluded.
- *distinct values*: equal stored values go to equal elements. Then no two elements are equal; and N distinct numbers below N
  are a permutation. (Coverage shows that every element is one of the stored values.)
- *ordered values*: what goes to a later element is not smaller, what goes to the first is 0, to the last the total; and there
  is an element.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement, product

from zellige.ir import ops
from zellige.ir.extent import Const
from zellige.ir.ops import Function, Op, Value
from zellige.ir.types import ArrayParam, ContractKind, Role
from zellige.ir.walk import definitions, walk
from zellige.verify import terms
from zellige.verify.obligations import Access, Claim, Kind
from zellige.verify.substitution import Renaming
from zellige.verify.symbolic import Symbols


def constructed(function: Function, param: ArrayParam) -> bool:
    """Whether the only store to ``param`` is one whole tile that keeps its contract by construction, in one program."""
    stores = [op for op in walk(function.body) if isinstance(op, ops.Store) and op.array == param.name]
    if len(stores) != 1 or stores[0] not in function.body.ops or any(a.programs != Const(1) for a in function.grid):
        return False
    (store,) = stores
    made = definitions(function.body)
    position = made.get(store.index[0]) if len(store.index) == 1 else None
    whole = isinstance(position, ops.Iota) and position.result.type.shape == param.shape and not store.masks
    return whole and _keeps(made, store.value, param)


def _keeps(made: dict[Value, Op], stored: Value, param: ArrayParam) -> bool:
    contract = param.contract
    assert contract is not None
    match made.get(stored):
        case ops.Offsets(total=total) if contract.kind is ContractKind.OFFSETS:
            match made.get(total):
                case ops.ExtentValue(extent=extent):
                    return extent == contract.bound
                case ops.Constant(value=number):
                    return Const(int(number)) == contract.bound
        case ops.Sort() as value if contract.kind is not ContractKind.OFFSETS:
            whole = contract.kind is ContractKind.INDEX or param.shape == (contract.bound,)
            return whole and stored is value.order
    return False


def ends_claim(symbols: Symbols, param: ArrayParam, access: Access) -> Claim | None:
    """Offsets made of no lengths are their total alone, which is also where they begin: it must be 0 then."""
    contract, op = param.contract, access.op
    assert contract is not None and isinstance(op, ops.Store)
    if contract.kind is not ContractKind.OFFSETS:
        return None
    count, total = symbols.extent(param.shape[0]), symbols.extent(contract.bound)
    return Claim(
        Kind.CONTRACT, "ZL0406", op.span, (), terms.disjunction((terms.le(2, count), terms.le(total, 0))),
        f"'{param.name}' begins at 0 and ends at {contract.bound}: it has two elements at least, or {contract.bound} is 0",
        {"elements": count, "total": total}, (access.block,), (), param.name, str(contract),
    )  # fmt: skip


def by_distinct_values(param: ArrayParam) -> bool:
    """Whether distinct values are all that the contract asks (a range aside)."""
    contract = param.contract
    if param.role is not Role.OUT or contract is None:
        return False
    if contract.kind is ContractKind.PERMUTATION:
        return param.shape == (contract.bound,)
    return contract.kind is not ContractKind.OFFSETS


def distinct_claims(symbols: Symbols, param: ArrayParam, found: list[Access]) -> Iterator[Claim]:
    """Equal values stored to ``param``, by whatever programs, go to one element."""
    rename = Renaming("″")
    for one, two in combinations_with_replacement(found, 2):
        assert isinstance(one.op, ops.Store) and isinstance(two.op, ops.Store)
        values = symbols.int_at(one.op.value, one.lanes), rename.int(symbols.int_at(two.op.value, two.lanes))
        theirs = tuple(map(rename.int, two.coordinates))
        same = terms.conjunction(terms.equal(a, b) for a, b in zip(one.coordinates, theirs, strict=True))
        present = (*symbols.scope(one.block), *one.lanes)
        others = (*symbols.scope(two.block), *two.lanes)
        yield Claim(
            Kind.CONTRACT, "ZL0406", one.op.span,
            (one.active, rename.bool(two.active), terms.equal(*values), terms.le(0, values[0])), same,
            f"different elements of '{param.name}' get different values", {"value": values[0]}, (one.block, two.block),
            one.lanes, param.name, str(param.contract), others=(two.op.span,), present=(*present, *map(rename.int, others)),
        )  # fmt: skip


def by_ordered_values(param: ArrayParam) -> bool:
    """Whether the order of values and both ends are all that the contract asks (a range aside)."""
    return param.role is Role.OUT and param.contract is not None and param.contract.kind is ContractKind.OFFSETS


def ordered_claims(symbols: Symbols, param: ArrayParam, found: list[Access]) -> Iterator[Claim]:
    """Values stored to ``param``, by whatever programs, never decrease, begin at 0 and end at the contract's bound."""
    contract = param.contract
    assert contract is not None
    rename = Renaming("″")
    size, total = symbols.extent(param.shape[0]), symbols.extent(contract.bound)
    yield Claim(
        Kind.CONTRACT, "ZL0406", found[0].op.span, (), terms.le(1, size), f"'{param.name}' has an element", {"extent": size},
        array=param.name, bound=str(contract),
    )  # fmt: skip
    for one in found:
        assert isinstance(one.op, ops.Store)
        value, (place,) = symbols.int_at(one.op.value, one.lanes), one.coordinates
        present = (*symbols.scope(one.block), *one.lanes)

        for assumption, goal, what in (
            (terms.equal(place, 0), terms.equal(value, 0), f"the first element of '{param.name}' is 0"),
            (terms.equal(place, size - 1), terms.equal(value, total), f"the last element is {contract.bound}"),
        ):
            yield Claim(
                Kind.CONTRACT, "ZL0406", one.op.span, (one.active, assumption), goal, what,
                {"element": place, "value": value}, (one.block,), one.lanes, param.name, str(contract), present=present,
            )  # fmt: skip
    for one, two in product(found, repeat=2):
        assert isinstance(one.op, ops.Store) and isinstance(two.op, ops.Store)
        value, later = symbols.int_at(one.op.value, one.lanes), rename.int(symbols.int_at(two.op.value, two.lanes))
        before = terms.le(one.coordinates[0], rename.int(two.coordinates[0]))
        here, there = (*symbols.scope(one.block), *one.lanes), (*symbols.scope(two.block), *two.lanes)
        yield Claim(
            Kind.CONTRACT, "ZL0406", one.op.span, (one.active, rename.bool(two.active), before), terms.le(value, later),
            f"a later element of '{param.name}' is not smaller", {"element": one.coordinates[0], "value": value, "later value": later},
            (one.block, two.block), one.lanes, param.name, str(contract), others=(two.op.span,),
            present=(*here, *map(rename.int, there)),
        )  # fmt: skip


def relates(param: ArrayParam) -> bool:
    """Whether a written array has a contract that relates its elements."""
    contract = param.contract
    if contract is None or param.role not in (Role.OUT, Role.MUT):
        return False
    return contract.distinct or contract.kind in (ContractKind.OFFSETS, ContractKind.PERMUTATION)
