"""What contracts say about elements of arrays, as ground facts: per application of the unknown array, and per pair."""

from __future__ import annotations

from collections.abc import Callable

from zellige.ir.dtypes import DType, index
from zellige.ir.extent import Extent
from zellige.ir.types import ArrayParam, Contract, ContractKind, Role
from zellige.verify import terms
from zellige.verify.terms import App, Bool, Function, Int, const, of_atom

ExtentTerm = Callable[[Extent], Int]


def value_range(contract: Contract, extent: ExtentTerm) -> tuple[int, Int]:
    """Smallest and largest element, absent ones included."""
    bound = extent(contract.bound)
    inclusive = contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS)
    return (-1 if contract.optional else 0), (bound if inclusive else bound - 1)


def array_function(param: ArrayParam, extent: ExtentTerm, changes: bool = False) -> Function:
    """The unknown function from coordinates to elements that an array is.

    ``changes``: the kernel writes the array, so an occurrence of a load is its own unknown; what holds of single elements
    still does (every store keeps it), what relates two elements does not.
    """
    contract = param.contract
    if not param.dtype.is_integer:
        return Function(param.name, shown=param.name)
    lowest, highest = storage_range(param.dtype)
    if contract is None:
        return Function(param.name, lambda app: (const(lowest), const(highest)), shown="" if changes else param.name)
    low, high = value_range(contract, extent)

    def bounds(app: App) -> tuple[Int, Int]:
        return const(low), high

    def facts(app: App) -> list[Bool]:
        known = [terms.le(of_atom(app), highest)]
        if contract.kind is ContractKind.OFFSETS and not changes:
            (i,), value = app.args, of_atom(app)
            known.append(terms.implies(terms.equal(i, 0), terms.equal(value, 0)))
            known.append(
                terms.implies(terms.equal(i, extent(param.shape[0]) - 1), terms.equal(value, extent(contract.bound)))
            )
        return [terms.implies(app.guard, fact) for fact in known]

    def pair_facts(a: App, b: App) -> list[Bool]:
        x, y = of_atom(a), of_atom(b)
        both = terms.conjunction((a.guard, b.guard))
        if contract.kind is ContractKind.OFFSETS:
            (i,), (j,) = a.args, b.args
            ordered = (terms.implies(terms.le(i, j), terms.le(x, y)), terms.implies(terms.le(j, i), terms.le(y, x)))
            return [terms.implies(both, fact) for fact in ordered]
        same = terms.conjunction(terms.equal(i, j) for i, j in zip(a.args, b.args, strict=True))
        clash = terms.conjunction((both, terms.equal(x, y), terms.le(0, x)))
        return [terms.implies(clash, same)]

    injective = contract.distinct or contract.kind is ContractKind.PERMUTATION
    relates = injective or contract.kind is ContractKind.OFFSETS
    if changes:
        return Function(param.name, bounds, facts)
    whole = contract.distinct and not contract.optional and contract.kind is ContractKind.INDEX
    all_of_them = whole and param.shape == (contract.bound,)  # N distinct numbers below N
    permutes = (lambda app: high + 1) if contract.kind is ContractKind.PERMUTATION or all_of_them else None
    return Function(param.name, bounds, facts, pair_facts if relates else None, injective, permutes, shown=param.name)


def inhabited(param: ArrayParam, extent: ExtentTerm) -> Bool:
    """What it means that every element of an argument keeps its contract as the launch begins, in terms of dims alone: if
    there is an element, there is a number that it can be."""
    contract = param.contract
    if (
        contract is None
        or contract.optional
        or contract.kind is not ContractKind.INDEX
        or param.role not in (Role.IN, Role.MUT)
    ):
        return terms.true()
    some = terms.conjunction(terms.lt(0, extent(e)) for e in param.shape)
    return terms.implies(some, terms.lt(0, extent(contract.bound)))


def storage_range(dtype: DType) -> tuple[int, int]:
    """Numbers that an integer dtype can hold; of ``index``, the 64 bits that it has at most."""
    return (-(1 << 63), (1 << 63) - 1) if dtype is index else dtype.integer_range()
