"""What people write out of habit, and how it is said here: suggestions for names that a kernel does not know."""

from __future__ import annotations

import ast
from types import ModuleType

from zellige.frontend.context import describe
from zellige.frontend.values import ArrayRef, Tile
from zellige.lang import operations as declared
from zellige.lang.dtype_names import DTYPES

_TRANSLATIONS = {
    "zeros": "zl.zeros(shape, zl.f32)", "ones": "zl.full(shape, 1, zl.f32)", "empty": "zl.zeros(shape, zl.f32)",
    "zeros_like": "zl.zeros(x.shape, x.dtype)", "ones_like": "zl.full(x.shape, 1, x.dtype)", "array": "zl.full, or an argument",
    "matmul": "zl.dot(a, b)", "einsum": "zl.dot, or zl.sum of a product", "power": "zl.exp2(y * zl.log2(x))",
    "pow": "zl.exp2(y * zl.log2(x))", "absolute": "zl.abs", "amax": "zl.max", "amin": "zl.min", "argsort": "zl.sort(x)[1]",
    "cumsum": "zl.cumsum", "cumprod": "zl.cumprod", "relu": "zl.maximum(x, 0.0)", "softmax": "zl.exp(x - zl.max(x)), over its zl.sum",
    "expand_dims": "x[:, None]", "concatenate": "two stores, or zl.join", "concat": "two stores, or zl.join",
    "stack": "zl.join", "take": "zl.gather", "take_along_axis": "zl.gather", "swapaxes": "zl.transpose(x, (1, 0))",
    "logical_and": "&", "logical_or": "|", "logical_not": "~", "clip": "zl.clamp(x, low, high)",
    "linspace": "zl.arange",
    "var": "zl.mean((x - zl.mean(x)) ** 2)", "std": "zl.sqrt(zl.mean((x - zl.mean(x)) ** 2))", "dot": "zl.dot(a, b)",
    "program_id": "zl.grid(…), which gives this program's span or index", "num_programs": "the extents themselves",
    "load": "x[index]", "store": "x[index] = value", "cdiv": "zl.ceildiv(a, b)", "constexpr": "a zl.Static parameter",
    "atomic_add": "c.add(index, value) of a zl.Acc array", "syncthreads": "nothing: programs share no memory",
    "static_range": "zl.unroll(range(n))", "make_block_ptr": "x[rows, cols]", "multiple_of": "nothing: it is proved",
    "trans": "x.T", "len": "x.shape[0]", "print": "an output array to look at values", "int": "x.to(zl.i32)",
    "float": "x.to(zl.f32)", "bool": "x != 0", "enumerate": "range(n)", "zip": "one loop with an index", "sorted": "zl.sort(x)",
    "any": "zl.any(x)", "all": "zl.all(x)", "sum": "zl.sum(x)", "round": "zl.round(x)", "astype": ".to(dtype)", "item": "x itself",
    "copy": "x itself: tiles are values", "view": "zl.bitcast(x, dtype), or zl.reshape", "flatten": "x.reshape(-1)",
    "size": "a product of x.shape", "ndim": "len of x.shape, which is static",
    "unsqueeze": "x[:, None]", "squeeze": "zl.reshape", "permute": "zl.transpose(x, order)", "contiguous": "x itself",
    "add": "a + b", "subtract": "a - b", "multiply": "a * b", "divide": "a / b", "true_divide": "a / b",
    "floor_divide": "a // b", "mod": "a % b", "remainder": "a % b", "negative": "-x", "square": "x * x", "equal": "a == b",
    "not_equal": "a != b", "less": "a < b", "less_equal": "a <= b", "greater": "a > b", "greater_equal": "a >= b",
    "bitwise_and": "a & b", "bitwise_or": "a | b", "bitwise_xor": "a ^ b", "invert": "~x", "left_shift": "a << b",
    "right_shift": "a >> b", "reciprocal": "1.0 / x", "transpose": "x.T", "ravel": "x.reshape(-1)",
    "ensures": "the output's element type, such as y: zl.Out[zl.Index[N], M]: every stored value is then proved to keep it",
    "append": "an output array, or zl.join: no sequence of a kernel grows", "isnan": "x != x", "rint": "zl.round(x)",
    "log1p": "zl.log(1.0 + x)", "expm1": "zl.exp(x) - 1.0", "tan": "zl.sin(x) / zl.cos(x)", "gelu": "0.5 * x * (1.0 + zl.erf(x * 0.7071))",
}  # fmt: skip

CALLS = {
    "arange": "zl.arange(n) is 0 … n - 1; of others write start + step * zl.arange(n)",
    "clamp": "it is zl.clamp(x, low, high)",
    "where": "it is zl.where(condition, x, y)",
}
"""What to write in place of a call that another library takes."""

_NODES = {
    "Lambda": ("a lambda", "write a function decorated with @zl.inline, outside the kernel"),
    "ListComp": ("a comprehension", "loop with for, or unroll with zl.unroll"),
    "SetComp": ("a comprehension", "loop with for, or unroll with zl.unroll"),
    "DictComp": ("a comprehension", "loop with for, or unroll with zl.unroll"),
    "GeneratorExp": ("a generator", "loop with for, or unroll with zl.unroll"),
    "Dict": ("a dict", "keep values in variables"),
    "Set": ("a set", "keep values in variables"),
    "NamedExpr": ("an assignment inside an expression (:=)", "assign on a line of its own"),
    "Await": ("an await", "programs run to their end"),
    "Yield": ("a yield", "a kernel returns nothing; store to an output"),
    "JoinedStr": ("an f-string", "kernels have no strings at run time"),
    "Starred": ("a starred expression", "name each part"),
    "FunctionDef": ("a function", "write it outside the kernel and decorate it with @zl.inline"),
    "ClassDef": ("a class", "kernels have tiles and numbers only"),
    "Break": ("a break", "end the loop by its condition: while zl.bounded(condition, limit)"),
    "Continue": ("a continue", "put the rest of the body under if"),
    "Try": ("a try", "nothing in a kernel raises; zl.guard checks an index at run time"),
    "Raise": ("a raise", "zl.guard checks an index at run time, zl.requires a condition at the launch"),
    "Import": ("an import", "import outside the kernel"),
    "ImportFrom": ("an import", "import outside the kernel"),
    "Global": ("a global statement", "pass values as arguments"),
    "Nonlocal": ("a nonlocal statement", "pass values as arguments"),
    "Delete": ("a del", "names need no cleaning up"),
    "Match": ("a match", "use if and elif"),
    "With": ("this 'with'", 'only with zl.unsafe("why it is sound"):'),
    "Return": ("this return", "store results to outputs"),
}


def unknown_node(node: ast.AST) -> tuple[str, str]:
    """How a piece of Python that kernels do not have is called, and what to write in its place."""
    name = type(node).__name__
    default = (
        f"this {name}",
        "kernels use assignments, arithmetic, subscripts, calls of zl functions, for, if and while zl.bounded",
    )
    if name in ("For", "While"):
        return f"a {name.lower()} with else", "put the else after the loop"
    return _NODES.get(name, default)


def in_place_of(name: str) -> str | None:
    """What to write where someone used a name from NumPy, PyTorch, Triton or plain Python; None if it means nothing to us."""
    known = _TRANSLATIONS.get(name) or DTYPES.get(name)
    if known is None and hasattr(getattr(declared, name, None), "__zl_operation__"):
        known = f"zl.{name}"
    return None if known is None else f"use {known}"


def uncallable(function: object, arguments: list[object]) -> tuple[str, str]:
    """Message and help for a call that a kernel cannot make."""
    name = getattr(function, "__name__", None)
    if type(function).__name__ == "Kernel":
        return (
            f"kernel '{name}' is called in a kernel",
            "share code by functions decorated with @zl.inline; launch kernels one after the other",
        )
    if name is None:
        return f"{describe(function)} cannot be called", "call zl functions, or functions decorated with @zl.inline"
    module = (getattr(function, "__module__", None) or "").split(".")[0]
    own = module not in ("", "builtins", "numpy", "math", "torch", "triton", "jax", "scipy")
    if own and hasattr(function, "__code__"):
        what = next((describe(a) for a in arguments if isinstance(a, Tile | ArrayRef)), "a run-time value")
        return f"'{name}' is a plain function and is called with {what}", f"decorate {name} with @zl.inline"
    help = (
        in_place_of(name) or "call zl functions, functions decorated with @zl.inline, or plain Python on static values"
    )
    shown = f"{module}.{name}" if module not in ("", "builtins") else name
    return f"'{shown}' cannot be called in a kernel", help


def missing_attribute(owner: object, name: str) -> tuple[str, str | None]:
    """Message and help for an attribute that a compile-time object has not."""
    shown = owner.__name__ if isinstance(owner, ModuleType) else describe(owner)
    if shown == "zellige":
        return f"zl has no operation '{name}'", in_place_of(name) or _close(name) or "docs/language.md lists them all"
    return f"{shown} has no attribute '{name}'", in_place_of(
        name
    ) or "it is known when the kernel is compiled, and is no tile"


def _close(name: str) -> str | None:
    import difflib

    known = [n for n in dir(declared) if hasattr(getattr(declared, n), "__zl_operation__")]
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean 'zl.{close[0]}'?" if close else None
