"""From a claim that could not be proved to what the author reads."""

from __future__ import annotations

from zellige.diagnostics.findings import Finding, Label
from zellige.ir.extent import Quotient
from zellige.ir.ops import Function, GridAxis, While
from zellige.ir.types import ArrayParam
from zellige.verify import terms
from zellige.verify.counterexample import SIZES, UNBOUNDED, Example, search
from zellige.verify.obligations import Access, Claim, Kind
from zellige.verify.solver import Outcome, Solver
from zellige.verify.substitution import variables_of
from zellige.verify.suggestions import steps, suggestion
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import Atom, Int


def of_claim(symbols: Symbols, solver: Solver, claim: Claim, outcome: Outcome) -> tuple[Finding, int]:
    """What to tell of a claim that the solver refuted or gave up on, and the sum of the sizes that it shows."""
    large = claim.kind in (Kind.OVERFLOW, Kind.CAST)
    example = search(symbols, solver, claim, UNBOUNDED if large else SIZES)
    message, label, why, help = _words(symbols, claim, example)
    help = suggestion(symbols.function, claim, example.facts if example else {}) or help
    others = tuple(Label(span, "the other access") for span in claim.others if span != claim.span)
    if example is None:
        facts = {"claim": claim.what}
        reason = "the solver gave up" if outcome is Outcome.UNKNOWN else "it fails for sizes too large to show"
        unknown = Finding(
            claim.code, f"could not prove that {claim.what}", claim.span, label, others, facts,
            f"{reason}; what is not proved is refused", help, refuted=False,
        )  # fmt: skip
        return unknown, 0
    if not example.certain:
        why += "; the numbers use a value that the verifier does not follow (carried by a loop, reduced or read from memory)"
    shown = Finding(claim.code, message, claim.span, label, others, example.facts, why, help, refuted=example.certain)
    return shown, sum(example.values.values())


def _words(symbols: Symbols, claim: Claim, example: Example | None) -> tuple[str, str, str, str]:
    """Message, label under the caret, why, and the suggested edit."""
    facts = example.facts if example else {}
    match claim.kind:
        case Kind.BOUNDS if claim.array:
            where = f"axis {claim.axis} of '{claim.array}'"
            position = facts.get("index")
            if claim.bound == "0":
                message = f"negative index on {where}" + (f": {position}" if example else "")
                return (
                    message, "this index can be negative",
                    "an active lane computes an index below 0; negative indices do not count from the end",
                    "mask the access with zl.only(index, index >= 0), or change the index",
                )  # fmt: skip
            message = f"index out of bounds on {where}" + (
                f": {position} is not below {facts['extent']}" if example else ""
            )
            end = claim.bound if claim.bound.startswith("(") else f"({claim.bound})"
            return (
                message, f"can reach past the end {end}",
                "a lane that is active here, whether or not its value is used later, touches an element outside the array",
                f"index with a span of {claim.bound} (zl.tiles), mask lanes with zl.only(index, index < {claim.bound}), "
                "or state what makes it true with zl.requires(...)",
            )  # fmt: skip
        case Kind.BOUNDS:
            return (
                "a gathered position is outside the tile", "this position can be outside", "zl.gather takes from the tile only",
                "clamp the positions, or mask them",
            )  # fmt: skip
        case Kind.RACE:
            return (
                f"two programs meet in '{claim.array}'", "one program writes here what another one touches",
                "programs run in any order or at once, so what is in this element afterwards depends on the schedule",
                "give each program its own elements: index with all of its grid ids, or declare the grid over this axis",
            )  # fmt: skip
        case Kind.LANES:
            return (
                f"two lanes of one store write the same element of '{claim.array}'", "lanes of this store meet",
                "which of the values stays has no single meaning",
                "reduce the values first, or use an Acc array; an index array that never repeats is zl.Index[N, zl.distinct]",
            )  # fmt: skip
        case Kind.DIVISION if steps(claim.span):
            return (
                "the step of a range can be 0", "a range with this step never ends", "with a step of 0 a loop has no last iteration",
                "state zl.requires(step > 0) if it is a dim or a scalar, else use zl.maximum(step, 1)",
            )  # fmt: skip
        case Kind.DIVISION:
            return (
                "division by zero in integer arithmetic", "this divisor can be 0", "every lane computes it, active or not",
                "state zl.requires(divisor > 0) if it is a dim or a scalar, else use zl.maximum(divisor, 1)",
            )  # fmt: skip
        case Kind.OVERFLOW:
            widen = (
                "drop index_bits=32, so that 64-bit arithmetic is used, or"
                if claim.bound == "32"
                else "reorder the arithmetic, or"
            )
            thing = f"the offset into '{claim.array}'" if claim.array else "index arithmetic"
            return (
                f"{thing} overflows {claim.bound} bits" + (f": {facts['value']}" if example else ""),
                f"exceeds {claim.bound} bits", "the wrapped value would address another element, or none",
                f"{widen} bound the sizes with zl.requires(...)",
            )  # fmt: skip
        case Kind.CAST:
            return (
                f"a value does not fit {claim.bound}", f"can exceed {claim.bound}",
                "conversions to and from index are exact", f"bound it first with zl.clamp, or use a wider type than {claim.bound}",
            )  # fmt: skip
        case Kind.CONTRACT if claim.code == "ZL0406" and "elements" in claim.shown:
            return (
                f"of no lengths, the offsets in '{claim.array}' are one element, which cannot be both 0 and the total",
                "there may be no lengths", f"{claim.bound} runs from 0 to its bound, and readers rely on it without checking",
                "require a length at least, such as zl.requires(S >= 1) for an output of S + 1 offsets",
            )  # fmt: skip
        case Kind.CONTRACT if claim.code == "ZL0406" and claim.bound.startswith("Offsets"):
            return (
                f"'{claim.array}' may break its contract {claim.bound}: not proved that {claim.what}", "this value breaks it",
                "whoever reads the array relies on the contract without checking",
                "store 0 first, never less than before, and the total last; or zl.offsets(lengths, total=…) as one whole tile",
            )  # fmt: skip
        case Kind.CONTRACT if claim.code == "ZL0406":
            return (
                f"two elements of '{claim.array}' may get equal values, which {claim.bound} excludes",
                "equal values may be stored to different elements",
                "whoever reads the array relies on the contract without checking",
                "store what is distinct by construction (the order of zl.sort, an index itself), or declare the output zl.Index[…]",
            )  # fmt: skip
        case Kind.CONTRACT if claim.code == "ZL0405":
            return (
                f"an update of '{claim.array}', whose contract {claim.bound} it may break", "other programs update this element, too",
                "what an update leaves depends on what other programs added",
                f"declare {claim.array} a zl.Acc of plain integers, and check the contract afterwards with zl.index(…)",
            )  # fmt: skip
        case Kind.CONTRACT:
            return (
                f"a value stored to '{claim.array}' breaks its contract {claim.bound}", "this value can break the contract",
                "whoever reads the array relies on the contract without checking",
                "clamp the value, or leave out the lanes that break it: y[zl.only(index, condition)]",
            )  # fmt: skip
    return f"not proved: {claim.what}", "", "", ""


def of_coverage(
    symbols: Symbols, solver: Solver, claim: Claim, param: ArrayParam, stores: list[Access], unsure: list[Access],
    anywhere: tuple[Int, ...],
) -> Finding:  # fmt: skip
    """What to tell of an uncovered array, to which ``unsure`` store in a while. An element counts as missed only if, at
    those sizes, no program at all can be found that writes it."""
    help = "store to every element (cover the whole axis with the grid or a loop), or declare the array zl.Mut"
    if unsure:
        help = _instead_of_a_while(symbols, param, unsure[0])
    if not stores and unsure:
        return Finding(
            "ZL0303", f"'{param.name}' is stored to in a while only, which may end before it has reached every element",
            unsure[0].op.span, "nobody knows that this is reached", (), {}, "an Out array may be uninitialised memory, so every "
            "element must be written; what a while stores counts for nothing, since its condition may fail at once",
            help, refuted=False,
        )  # fmt: skip
    if not stores:
        return Finding(
            "ZL0303", f"'{param.name}' is Out but nothing is stored to it", symbols.function.span, "", (), {}, "an Out array "
            "may be uninitialised memory, so every element must be written", help,
        )  # fmt: skip
    others = tuple(Label(a.op.span, "this store may never be reached: it counts for nothing") for a in unsure)
    if not unsure:
        help = next(map(_rounded_down, filter(_rounds_down, symbols.function.grid)), help)
    why = "an Out array may be uninitialised memory; this element keeps whatever was there"
    span = claim.span
    for size in (2, 4, 8, 16, 64):
        example = search(symbols, solver, claim, ((0, size),))
        if example is None:
            continue
        if not _someone_writes(symbols, solver, claim, [*stores, *unsure], anywhere, example):
            element = f"{param.name}[{', '.join(str(example.facts[k]) for k in claim.shown)}]"
            facts = {k: v for k, v in example.facts.items() if k not in claim.shown} | {"element": element}
            return Finding(
                "ZL0303", f"an element of '{param.name}' is never written: {element}", span, "the stores miss it", others, facts,
                why, help, refuted=True,
            )  # fmt: skip
    return Finding(
        "ZL0303", f"could not prove that every element of '{param.name}' is written", span, "does this reach all of it?", others,
        {"claim": claim.what}, "no program, iteration and lane could be named for each element",
        help if unsure else "store where the grid's own indices say, and compute where to read instead (y[i] = x[…], not "
        "y[…] = x[i]); or declare the array zl.Mut", refuted=False,
    )  # fmt: skip


def _instead_of_a_while(symbols: Symbols, param: ArrayParam, store: Access) -> str:
    """What to do about a store in a while, whose element is the same in every iteration, or not."""
    iterations: set[Atom | None] = set()
    place = symbols.places[store.block]
    while place.parent is not None:
        if isinstance(place.owner, While):
            iterations.add(symbols.iteration(place.owner, place.which).atom)
        place = symbols.places[place.parent]
    if iterations.isdisjoint(variables_of(*store.coordinates)):
        return "keep the value in a name, which the while carries, and store it once after the while"
    return (
        f"store something to every element before the while, which then replaces it ({param.name}[…] = 0), or declare the "
        "array zl.Mut"
    )


def _rounds_down(axis: GridAxis) -> bool:
    return isinstance(axis.programs, Quotient) and axis.programs.op == "floordiv"


def _rounded_down(axis: GridAxis) -> str:
    """The edit for a grid axis that leaves out what is no whole tile."""
    assert isinstance(axis.programs, Quotient)
    extent, size = axis.programs.left, axis.programs.right
    return f"this grid leaves out the rest of {extent} by {size}: {extent}.tiles({size}) has a tile for it, with inactive lanes"


def _someone_writes(
    symbols: Symbols, solver: Solver, claim: Claim, stores: list[Access], anywhere: tuple[Int, ...], example: Example
) -> bool:
    fixed = [terms.equal(symbols.dim(name), value) for name, value in example.values.items()]
    element = [terms.equal(c, example.facts[f"axis {k}"]) for k, c in enumerate(anywhere)]
    for store in stores:
        hits = [terms.equal(a, b) for a, b in zip(store.coordinates, anywhere, strict=True)]
        own = [terms.le(0, t) for t in (*symbols.scope(store.block), *store.lanes)]
        if solver.prove((*fixed, *element, *hits, *own, store.active), terms.false()) is not Outcome.PROVED:
            return True
    return False


def relational_output(function: Function, name: str, contract: str) -> Finding:
    """An output whose contract relates its elements."""
    return Finding(
        "ZL0406", f"'{name}' is an output with the contract {contract}, which relates its elements", function.span, "", (),
        {"contract": contract}, "a kernel's stores are checked one by one; that all elements together keep the contract is "
        "not proved", "store one whole tile of zl.offsets(lengths, total=…) from a grid of one program, or declare the output "
        "zl.UpTo[…] and let the next launch check it",
        refuted=False,
    )  # fmt: skip
