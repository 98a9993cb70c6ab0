"""Makes a failing kernel smaller: drops statements, summands, branches and parameters while it still fails."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any


def shrink(source: str, fails: Callable[[str], bool]) -> str:
    """The smallest source reached by single removals that still fails."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(source):
            if fails(candidate):
                source, smaller = candidate, True
                break
    return source


def _smaller(source: str) -> Iterator[str]:
    """Sources with one thing less."""
    for kind in (_without_statement, _without_summand, _without_parameter):
        count = 0
        while (candidate := kind(ast.parse(source), count)) is not None:
            if candidate:
                yield candidate
            count += 1


def _without_statement(tree: ast.Module, number: int) -> str | None:
    """Without the n-th statement of the body, or with it replaced by its own body."""
    found = 0
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            block: Any = getattr(node, field, None)
            if isinstance(node, ast.Module) or not isinstance(block, list):
                continue
            for i, statement in enumerate(block):
                replacements: list[list[ast.stmt]] = [[]]
                if isinstance(statement, ast.If | ast.For):
                    replacements.append(statement.body)
                for replacement in replacements:
                    if found == number:
                        block[i : i + 1] = replacement
                        return _text(tree) if block or field == "orelse" else ""
                    found += 1
    return None


def _without_summand(tree: ast.Module, number: int) -> str | None:
    """With the n-th sum or call replaced by one of its parts, or 1.0."""
    found = 0
    for node in ast.walk(tree):
        for field, old in ast.iter_fields(node):
            parts: list[ast.expr] = []
            if isinstance(old, ast.BinOp) and isinstance(old.op, ast.Add):
                parts = [old.left, old.right]
            elif field == "value" and isinstance(node, ast.Assign) and not isinstance(old, ast.Constant):
                parts = [ast.Constant(1.0)]
            for part in parts:
                if found == number:
                    setattr(node, field, part)
                    return _text(tree)
                found += 1
    return None


def _without_parameter(tree: ast.Module, number: int) -> str | None:
    """Without the n-th parameter."""
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    positional, named = function.args.args, function.args.kwonlyargs
    if number >= len(positional) + len(named):
        return None
    if number < len(positional):
        del positional[number]
    elif len(named) == 1:
        return ""
    else:
        del named[number - len(positional)]
        del function.args.kw_defaults[number - len(positional)]
    return _text(tree)


def _text(tree: ast.Module) -> str:
    return ast.unparse(tree) + "\n"
