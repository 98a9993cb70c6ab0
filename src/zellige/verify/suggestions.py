"""The edit that a finding suggests, in the author's own names, where the counterexample and the source line tell which."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Mapping
from typing import Any

from zellige.diagnostics.span import Span
from zellige.ir.extent import Extent
from zellige.ir.ops import Function
from zellige.ir.types import ArrayParam, ContractKind, Role
from zellige.verify.obligations import Claim, Kind


def suggestion(function: Function, claim: Claim, facts: Mapping[str, Any]) -> str | None:
    """One edit that would decide the claim; None where nothing is known beyond its kind."""
    match claim.kind:
        case Kind.BOUNDS if claim.array:
            return _inside(function, claim, facts)
        case Kind.RACE | Kind.LANES:
            return _apart(function, claim, facts)
        case Kind.DIVISION:
            return _divisor(claim, facts)
        case Kind.CONTRACT if claim.code == "ZL0404":
            return _kept(function, claim, facts)
    return None


def _inside(function: Function, claim: Claim, facts: Mapping[str, Any]) -> str:
    """For an index out of bounds."""
    extent = function.array(claim.array).shape[claim.axis]
    index = _index(claim) or "index"
    negative = claim.bound == "0"
    if negative and re.fullmatch(r"-\d+", index):
        return f"write {extent} {index[0]} {index[1:]}: nothing counts from the end by itself"
    name = _loaded(function, facts)
    if name is not None:
        contract = function.array(name).contract
        itself = index.startswith(f"{name}[")
        if contract is None:
            return (
                f"declare {name}: zl.In[zl.Index[{extent}], …], and the call checks its values; or test them here, with "
                f"zl.guard({index}, below={extent})"
            )
        if contract.optional and negative and itself:
            return f"-1 stands for absent: write s = {index}, and use s under `if s.present:`"
        if contract.kind is ContractKind.UP_TO and itself and not negative:
            return f"'{name}' is {contract}, a length, and may be {contract.bound}; the positions below it are zl.tiles({index}, …)"
        other = contract.kind is ContractKind.INDEX and contract.bound != extent
        if other and itself and not negative:
            related = ""
            if _told(function, contract.bound):
                related = f", or state zl.requires({contract.bound} <= {extent})"
            return f"'{name}' is {contract}: declare it zl.Index[{extent}]{related}"
    inside = f"{index} >= 0" if negative else f"{index} < {extent}"
    return f"leave those lanes out with zl.only({index}, {inside}), or state with zl.requires(…) what keeps them inside"


def _apart(function: Function, claim: Claim, facts: Mapping[str, Any]) -> str | None:
    """For two programs or lanes that meet."""
    seen: dict[str, set[Any]] = {}
    for fact, value in facts.items():
        if found := re.match(r"(\w+)\[", fact):
            if value in seen.setdefault(found[1], set()) and _is_input(function, found[1]):
                contract = function.array(found[1]).contract
                bound = "…" if contract is None else contract.bound
                if contract is None or not contract.distinct:
                    return (
                        f"if the values of '{found[1]}' never repeat, declare it zl.Index[{bound}, zl.distinct]: the call checks it; "
                        "to add up what meets, use zl.Acc and .add"
                    )
            seen[found[1]].add(value)
    statement = _statement(claim.span)
    if claim.kind is Kind.RACE and isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = ast.unparse(statement.targets[0]), statement.value
        match value:
            case ast.BinOp(left, ast.Add(), _) if ast.unparse(left) == target:
                place = target[len(claim.array) + 1 : -1]
                index = f"({place})" if "," in place else place
                return (
                    f"to add up over programs, declare {claim.array}: zl.Acc(init=0)[…] and write "
                    f"{claim.array}.add({index}, {ast.unparse(value.right)})"
                )
    if claim.kind is Kind.RACE and " reads " in claim.what and function.array(claim.array).role is Role.MUT:
        return f"read '{claim.array}' as a zl.In and store to a zl.Out of its own: then nobody reads what another one writes"
    return None


def _divisor(claim: Claim, facts: Mapping[str, Any]) -> str | None:
    """For a division by zero."""
    zero = re.findall(r"(\w+) = 0\b", str(facts.get("sizes", "")))
    zero += [fact.removeprefix("scalar ") for fact, value in facts.items() if fact.startswith("scalar ") and value == 0]
    divisor = _divided_by(claim.span)
    if divisor is None:
        return None
    text = ast.unparse(divisor)
    named = {n.id for n in ast.walk(divisor) if isinstance(n, ast.Name)}
    if isinstance(divisor, ast.Name) and text in zero:
        return f"state zl.requires({text} > 0)"
    if named & set(zero):
        return None
    limited = f"zl.maximum({text}, 1)"
    return f"make the step {limited}" if steps(claim.span) else f"divide by {limited}"


def _divided_by(span: Span) -> ast.expr | None:
    """What the author divides by: also the step of a range, whose number of iterations is a quotient."""
    for expression in _expressions(span):
        match expression:
            case ast.BinOp(right=divisor) | ast.Call(ast.Name("range"), [_, _, divisor], []):
                return divisor
            case ast.Call(ast.Name("ceildiv") | ast.Attribute(attr="ceildiv"), [_, divisor], []):
                return divisor
    return None


def steps(span: Span) -> bool:
    """Whether a span is a range with a step."""
    return any(
        isinstance(e, ast.Call) and ast.unparse(e.func) == "range" and len(e.args) == 3 for e in _expressions(span)
    )


def _kept(function: Function, claim: Claim, facts: Mapping[str, Any]) -> str | None:
    """For a stored value outside its array's contract."""
    contract = function.array(claim.array).contract
    largest, value = facts.get("largest"), facts.get("value")
    if contract is None or not isinstance(largest, int) or not _told(function, contract.bound):
        return None
    if largest < 0:
        return f"state zl.requires({contract.bound} >= 1): at {contract.bound} = 0 there are no values of {contract}"
    statement = _statement(claim.span)
    if isinstance(statement, ast.Assign) and isinstance(value, int) and value > largest:
        limit = f"{contract.bound}" if contract.kind is ContractKind.UP_TO else f"{contract.bound} - 1"
        return f"store zl.minimum({ast.unparse(statement.value)}, {limit}), if that is what is meant"
    return None


def _told(function: Function, extent: Extent) -> bool:
    """Whether a kernel can name an extent: its dims stand in shapes."""
    return extent.dims() <= {dim for array in function.arrays for axis in array.shape for dim in axis.dims()}


def _loaded(function: Function, facts: Mapping[str, Any]) -> str | None:
    """An input array of integers whose elements the counterexample chooses."""
    names = (found[1] for fact in facts if (found := re.match(r"(\w+)\[", fact)))
    return next((name for name in names if _is_input(function, name)), None)


def _is_input(function: Function, name: str) -> bool:
    arrays: list[ArrayParam] = [a for a in function.arrays if a.name == name]
    return bool(arrays) and (arrays[0].contract is not None or arrays[0].dtype.is_integer)


def _index(claim: Claim) -> str | None:
    """What the author wrote as the index of the axis."""
    for expression in _expressions(claim.span):
        match expression:
            case ast.Subscript(_, ast.Tuple(parts)) if claim.axis < len(parts):
                part: ast.expr = parts[claim.axis]
            case ast.Subscript(_, part) if claim.axis == 0:
                pass
            case _:
                continue
        match part:
            case ast.Slice():
                return None
            case ast.Call(ast.Attribute(_, "only"), [inner, *_]):  # a mask that is there, and lets too much through
                part = inner
        return ast.unparse(part)
    return None


def _expressions(span: Span) -> list[ast.expr]:
    """The expression that a span of one line covers, as a list of one; nothing if it covers none."""
    line = linecache.getline(span.file, span.line)
    if span.line != span.end_line:
        return []
    try:
        return [ast.parse(line[span.column : span.end_column].strip(), mode="eval").body]
    except SyntaxError:
        return []


def _statement(span: Span) -> ast.stmt | None:
    """The statement of one line that a span stands in."""
    try:
        body = ast.parse(linecache.getline(span.file, span.line).strip()).body
    except SyntaxError:
        return None
    return body[0] if body else None
