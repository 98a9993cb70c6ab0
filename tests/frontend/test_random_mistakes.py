"""Kernels with random mistakes: each is lowered, or refused at a line of its own with an edit; none breaks the frontend.

Another seed or number of mistakes: ``MISTAKES_SEED=7 MISTAKES=5000 python -m pytest -n0 tests/frontend/test_random_mistakes.py``.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import linecache
import os
import random
import sys
import warnings
from pathlib import Path
from types import ModuleType

import zellige as zl
from tests.golden import ROOT
from zellige.diagnostics import ZelligeError
from zellige.lang import operations

SOURCES = [
    p for folder in ("examples/tutorials", "tests/rejected", "src/zellige/kernels")
    for p in sorted((ROOT / folder).glob("*.py")) if not p.name.startswith(("test_", "__"))
]  # fmt: skip
OPERATIONS = sorted(n for n, f in vars(operations).items() if hasattr(f, "__zl_operation__"))
CONSTANTS = [None, "a", -1, 0, 1, 2, 7, 2**70, 1.5, True, float("inf"), (1, 2)]
ATTRIBUTES = [
    "T",
    "shape",
    "active",
    "present",
    "start",
    "dtype",
    "max",
    "to",
    "tiles",
    "load",
    "add",
    "f16",
    "Q8_0",
    "bool_",
    "u64",
]
BINARY = [
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.LShift, ast.Pow, ast.MatMult,
]  # fmt: skip


class Mistake(ast.NodeTransformer):
    """Puts something else in place of the expression number ``place``."""

    def __init__(self, rng: random.Random, place: int, names: list[str]) -> None:
        self.rng, self.place, self.names, self.count = rng, place, names, -1

    def generic_visit(self, node: ast.AST) -> ast.AST:
        self.count += 1
        if (
            self.count == self.place
            and isinstance(node, ast.expr)
            and not isinstance(getattr(node, "ctx", None), ast.Store)
        ):
            return self.instead(node)
        return super().generic_visit(node)

    def instead(self, node: ast.expr) -> ast.expr:
        rng, made = self.rng, copy.deepcopy(node)
        if rng.random() < 0.4:
            match made:
                case ast.Call(ast.Attribute() as function) if rng.random() < 0.5:
                    function.attr = rng.choice(OPERATIONS)
                    return made
                case ast.Call(args=[_, *_]):
                    made.args.pop(rng.randrange(len(made.args)))
                    return made
                case ast.BinOp():
                    made.op = rng.choice(BINARY)()
                    return made
                case ast.Attribute():
                    made.attr = rng.choice([*ATTRIBUTES, *OPERATIONS])
                    return made
        return rng.choice([
            ast.Name(rng.choice(self.names), ast.Load()), ast.Constant(rng.choice(CONSTANTS)),
            ast.Subscript(node, ast.Constant(rng.choice([0, None])), ast.Load()),
            ast.UnaryOp(rng.choice([ast.USub, ast.Not, ast.Invert])(), node),
            ast.Attribute(node, rng.choice(ATTRIBUTES), ast.Load()), ast.Tuple([node, node], ast.Load()),
        ])  # fmt: skip


def with_mistakes(rng: random.Random) -> tuple[str, str]:
    """The text of a file with mistakes in one of its functions, and the function's name."""
    while True:
        tree = ast.parse(rng.choice(SOURCES).read_text())
        functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list]
        if not functions:
            continue
        chosen = rng.choice(functions)
        names = sorted({n.id for n in ast.walk(chosen) if isinstance(n, ast.Name)} | {a.arg for a in chosen.args.args})
        for _ in range(rng.choice([1, 1, 2])):
            places = sum(1 for statement in chosen.body for _ in ast.walk(statement))
            mistake = Mistake(rng, rng.randrange(places), names)
            chosen.body = [mistake.visit(statement) for statement in chosen.body]
        text = ast.unparse(ast.fix_missing_locations(tree))
        try:
            compile(text, "mistaken.py", "exec")
        except SyntaxError:
            continue  # Python itself says so
        return text, chosen.name


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mistaken", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    linecache.checkcache(str(path))
    spec.loader.exec_module(module)
    return module


def test_no_mistake_breaks_the_frontend(tmp_path: Path, monkeypatch) -> None:
    seed, number = int(os.environ.get("MISTAKES_SEED", "1")), int(os.environ.get("MISTAKES", "250"))
    print(f"seed {seed}")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    warnings.simplefilter("ignore", SyntaxWarning)
    rng, path, refused = random.Random(seed), tmp_path / "mistaken.py", 0
    for _ in range(number):
        text, name = with_mistakes(rng)
        path.write_text(text)
        module = loaded(path)
        chosen = getattr(module, name)
        kernels = (
            [chosen]
            if isinstance(chosen, zl.Kernel)
            else [k for k in vars(module).values() if isinstance(k, zl.Kernel)]
        )
        for kernel in kernels:
            try:
                kernel.lower(*next(kernel.variants()))
            except ZelligeError as error:
                refused += 1
                assert error.help and error.span is not None, (error, text)
            except Exception as error:
                error.add_note(f"seed {seed}, kernel {kernel.name} of\n{text}")
                raise
    assert refused > number // 10
