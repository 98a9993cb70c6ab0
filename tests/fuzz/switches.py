"""The verifier with one thing switched off: small changes of its source, and fresh modules made of the changed source.

A *switch* takes one fact, claim, condition, case or bound out of one of the modules that decide. The changed module and
fresh copies of the others stand in for the verifier while a block runs; nothing in production knows of it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import zellige.verify

PACKAGE = "zellige.verify"
FOLDER = Path(zellige.verify.__file__).parent
DECIDING = (
    "obligations", "contracts", "overflow", "races", "relations", "segments", "coverage", "invariants", "verifier", "lanes",
    "symbolic", "positions", "sums", "bits", "ranges", "solver", "substitution", "terms",
)  # fmt: skip
"""Modules that decide what is accepted. ``findings`` and ``counterexample`` say why not; ``cache`` and ``verdict`` keep it."""
TELLING = frozenset(
    ("_is_known", "_find", "_record", "find", "_is_predicate", "__repr__", "verb", "what", "assume", "Answer", "how")
)
"""Functions in them that only say why something is refused."""
REMEMBERED = ("known is None", "not in self.functions", "not in self.closed_forms")
"""Conditions of memories of what was worked out before."""
DEFAULTS = ("", "lambda app: (None, None)", "lambda app: []", "None", "False", "None")
"""What an unknown function is by default: nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One thing to switch off. ``key`` names it: module, function, what is done and to which piece of source."""

    module: str
    lines: range
    """A kernel whose verification runs none of them does not notice."""
    key: str
    code: Callable[[], CodeType]
    """The changed module, compiled."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is done to a piece of source, how, and how it is undone; ``lines``: where it matters, if that is not all of it."""

    what: str
    do: Callable[[], None]
    undo: Callable[[], None]
    lines: range | None = None


def switches(module: str, part: str = "") -> Iterator[Switch]:
    """The switches of a module that have ``part`` in their key, in order of its source."""
    path = FOLDER / f"{module}.py"
    tree = ast.parse(path.read_text())
    seen: Counter[str] = Counter()
    for function, lines, node in _nodes(tree, "", range(0)):
        for edit in _edits(node, function):
            if any(word in edit.what for word in REMEMBERED):
                continue
            name = f"{module}.{function.split(':')[0]}: {edit.what}"
            seen[name] += 1
            key = name if seen[name] == 1 else f"{name} ({seen[name]})"
            if part not in key:
                continue
            yield Switch(module, edit.lines or lines, key, partial(_compiled, tree, edit, path))


def _compiled(tree: ast.Module, edit: Edit, path: Path) -> CodeType:
    edit.do()
    code = compile(ast.fix_missing_locations(tree), str(path), "exec")
    edit.undo()
    return code


def _nodes(node: ast.AST, function: str, lines: range) -> Iterator[tuple[str, range, ast.AST]]:
    """Nodes inside functions, with ``function:returned type`` and the lines of the statement that they stand in."""
    if isinstance(node, ast.stmt):
        lines = _lines(node)
    for field, child in _children(node):
        if field in ("annotation", "returns"):
            continue
        inside = function
        match child:
            case ast.FunctionDef(name=name, returns=returns):
                if name in TELLING:
                    continue
                owner = function.split(":")[0]
                inside = f"{owner + '.' if owner else ''}{name}:{ast.unparse(returns) if returns else ''}"
            case ast.ClassDef(name=name):
                if name in TELLING:
                    continue
                inside = name
        if ":" in inside:
            yield inside, _lines(child) if isinstance(child, ast.stmt) else lines, child
        yield from _nodes(child, inside, lines)


def _lines(statement: ast.stmt) -> range:
    """Lines of a statement; of one with a body, of its head."""
    body = statement.cases if isinstance(statement, ast.Match) else getattr(statement, "body", None)
    last = statement.end_lineno or statement.lineno
    if body:
        first = body[0].pattern if isinstance(body[0], ast.match_case) else body[0]
        last = max(statement.lineno, first.lineno - 1)
    return range(statement.lineno, last + 1)


def _body(statements: list[ast.stmt]) -> range:
    return range(statements[0].lineno, (statements[-1].end_lineno or 0) + 1)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield field, child


# --- what can be switched off


def _edits(node: ast.AST, function: str) -> Iterator[Edit]:
    match node:
        case ast.Return(value=ast.expr() as value) if function.endswith(":bool"):
            for answer in (True, False):
                if not (isinstance(value, ast.Constant) and value.value is answer):
                    yield _field(node, "value", ast.Constant(answer), f"returns {answer} for", value)
        case ast.If(test=test):
            if not any(isinstance(s, ast.Raise) for s in node.body):
                yield _field(node, "test", ast.Constant(False), "never", test, _body(node.body))
                yield _field(node, "test", ast.Constant(True), "always", test)
        case ast.IfExp(test=test):
            yield _field(node, "test", ast.Constant(False), "never", test)
            yield _field(node, "test", ast.Constant(True), "always", test)
        case ast.BoolOp(values=values):
            for i, part in enumerate(values):
                neutral = ast.Constant(isinstance(node.op, ast.And))
                yield _item(values, i, neutral, f"without {'and' if neutral.value else 'or'}", part)
        case ast.Match(cases=cases):
            for i, case in enumerate(cases):
                if len(cases) > 1:
                    yield _element(cases, i, "without case", case.pattern, _body(case.body))
        case ast.match_case(guard=ast.expr() as guard):
            yield _field(node, "guard", None, "without condition of a case", guard)
        case ast.comprehension(ifs=ifs):
            for i, condition in enumerate(ifs):
                yield _element(ifs, i, "without filter", condition)
        case ast.List(elts=elements) if isinstance(node.ctx, ast.Load):
            for i, element in enumerate(elements):
                yield _element(elements, i, "without", element)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=ast.Constant(value=1)):
            yield _field(node, "right", ast.Constant(0), "without the 1 of", node)
        case ast.Call():
            yield from _call(node)
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if isinstance(body, list) and not isinstance(node, ast.Match):
            yield from _statements(body)


def _call(node: ast.Call) -> Iterator[Edit]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    arguments = node.args
    match name:
        case "implies":
            yield _field(
                node, "args", [ast.parse("terms.true()", mode="eval").body, arguments[1]], "without condition", node
            )
        case "conjunction" | "disjunction" | "prove" if isinstance(arguments[0], ast.Tuple):
            for i, part in enumerate(arguments[0].elts):
                yield _element(arguments[0].elts, i, f"without part of {name}", part)
        case "between":
            unlimited = "(10 ** 30)"
            yield _field(
                node, "args", [ast.parse(f"-{unlimited}", mode="eval").body, *arguments[1:]], "no low end", node
            )
            yield _field(node, "args", [*arguments[:2], ast.parse(unlimited, mode="eval").body], "no high end", node)
        case "Function":
            for i in range(1, len(arguments)):
                default = ast.parse(DEFAULTS[i], mode="eval").body
                yield _field(
                    node,
                    "args",
                    [*arguments[:i], default, *arguments[i + 1 :]],
                    "unknown function without",
                    arguments[i],
                )
            for i, keyword in enumerate(node.keywords):
                if keyword.arg in ("injective", "permutes", "pair_facts"):
                    yield _element(node.keywords, i, f"unknown function without {keyword.arg}", keyword.value)
        case "Claim":
            if isinstance(arguments[3], ast.Tuple):
                for i, part in enumerate(arguments[3].elts):
                    yield _element(arguments[3].elts, i, "without assumption", part)
            for i, keyword in enumerate(node.keywords):
                if keyword.arg == "present":
                    yield _element(node.keywords, i, "without what exists", keyword.value)
        case "apply" | "make_app" if len(arguments) > 2:
            yield _field(node, "args", arguments[:2], "without the guard of", node)
        case "lt":
            yield _renamed(node, "le")
        case "le":
            yield _renamed(node, "lt")


def _renamed(node: ast.Call, name: str) -> Edit:
    function, field = node.func, "attr" if isinstance(node.func, ast.Attribute) else "id"
    return _field(function, field, name, f"{name} for", node)


def _statements(body: list[ast.stmt]) -> Iterator[Edit]:
    for i, statement in enumerate(body):
        match statement:
            case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
                nothing: ast.stmt = ast.parse("def f():\n yield from ()").body[0].body[0]  # type: ignore[attr-defined]
            case ast.Expr(value=ast.Call()) | ast.AugAssign():
                nothing = ast.Pass()
            case ast.If() | ast.For() if any(isinstance(n, ast.Continue | ast.Break) for n in ast.walk(statement)):
                continue
            case _:
                continue
        yield _item(body, i, nothing, "dropped", statement)


def _field(node: Any, field: str, value: Any, what: str, piece: ast.AST, lines: range | None = None) -> Edit:
    old = getattr(node, field)
    return Edit(_said(what, piece), lambda: setattr(node, field, value), lambda: setattr(node, field, old), lines)


def _element(elements: list[Any], i: int, what: str, piece: ast.AST, lines: range | None = None) -> Edit:
    old = elements[i]
    return Edit(_said(what, piece), lambda: elements.pop(i), lambda: elements.insert(i, old), lines)


def _item(elements: list[Any], i: int, value: Any, what: str, piece: ast.AST) -> Edit:
    old = elements[i]
    lines = _lines(piece) if isinstance(piece, ast.stmt) else None
    return Edit(_said(what, piece), lambda: elements.__setitem__(i, value), lambda: elements.__setitem__(i, old), lines)


def _said(what: str, piece: ast.AST) -> str:
    text = " ".join(ast.unparse(piece).split())
    return f"{what} `{text if len(text) <= 90 else text[:87] + '…'}`"


# --- a changed verifier


class _Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the verifier's modules in ``codes``."""

    def __init__(self, codes: dict[str, CodeType]) -> None:
        self.codes = codes

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.codes:
            return None
        package = fullname == PACKAGE
        return importlib.util.spec_from_loader(fullname, self, is_package=package)

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(FOLDER / f"{module.__name__.removeprefix(PACKAGE).strip('.') or '__init__'}.py")
        exec(self.codes[module.__name__], module.__dict__)


@cache
def _originals() -> dict[str, CodeType]:
    codes = {}
    for path in FOLDER.glob("*.py"):
        name = PACKAGE if path.stem == "__init__" else f"{PACKAGE}.{path.stem}"
        codes[name] = compile(path.read_text(), str(path), "exec")
    return codes


@contextmanager
def switched(switch: Switch | None) -> Iterator[ModuleType]:
    """Fresh modules of the verifier with the switch made; gives ``zellige.verify.verifier``."""
    codes = dict(_originals())
    if switch is not None:
        codes[f"{PACKAGE}.{switch.module}"] = switch.code()
    kept = {name: m for name, m in sys.modules.items() if name == PACKAGE or name.startswith(PACKAGE + ".")}
    attribute = sys.modules["zellige"].verify
    finder = _Sources(codes)
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(f"{PACKAGE}.verifier")
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n == PACKAGE or n.startswith(PACKAGE + ".")]:
            del sys.modules[name]
        sys.modules.update(kept)
        sys.modules["zellige"].verify = attribute  # type: ignore[attr-defined]
