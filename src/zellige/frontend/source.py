"""The Python source of a kernel: where it stands in its file, and what its statements assign."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from zellige.diagnostics.span import Span
from zellige.frontend.errors import refuse


@dataclass(frozen=True, slots=True)
class SourceText:
    """A function's source, and where it stands in its file."""

    file: str
    first_line: int
    indent: int
    tree: ast.FunctionDef
    text: str
    """As it stands in the file, indentation included."""

    def span(self, node: ast.AST) -> Span:
        """The span of a node in the file."""
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        end_line = getattr(node, "end_lineno", None) or line
        end_column = getattr(node, "end_col_offset", None) or column + 1
        shift = self.first_line - 1
        return Span(self.file, line + shift, column + self.indent, end_line + shift, end_column + self.indent)

    def parameter(self, name: str) -> Span:
        """The span of a parameter, with its annotation; of the function if it has no such parameter."""
        arguments = self.tree.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.arg == name:
                return self.span(argument)
        return self.span(self.tree)


def read_source(function: Callable[..., Any]) -> SourceText:
    """The source of a Python function. LanguageError ZL0117 if Python does not have it."""
    name = getattr(function, "__name__", repr(function))
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        span = Span(code.co_filename, code.co_firstlineno, 0, code.co_firstlineno, 1)
        refuse("ZL0117", f"the source of '{name}' cannot be found", span, "define kernels in a file")
    text = "".join(lines)
    dedented = textwrap.dedent(text)
    tree = ast.parse(dedented).body[0]
    if not isinstance(tree, ast.FunctionDef):
        span = Span(code.co_filename, first, 0, first, 1 << 16)
        what = "an async function" if isinstance(tree, ast.AsyncFunctionDef) else "a lambda"
        refuse("ZL0114", f"{what} is no kernel", span, "write it as a function: def")
    indent = len(lines[0]) - len(lines[0].lstrip())
    return SourceText(inspect.getsourcefile(function) or code.co_filename, first, indent, tree, text)


def assigned(statements: Sequence[ast.stmt]) -> list[str]:
    """Names that statements may bind, in order of first appearance."""
    found: dict[str, None] = {}
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id] = None
    return list(found)


def as_load(target: ast.expr) -> ast.expr:
    """The target of an augmented assignment as an expression."""
    match target:
        case ast.Name(name):
            return ast.copy_location(ast.Name(name, ast.Load()), target)
        case ast.Subscript(value, key):
            return ast.copy_location(ast.Subscript(value, key, ast.Load()), target)
    return target
