"""Every kernel in this folder is refused, with the code and the kind of counterexample that its header states."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from zellige.diagnostics import ZelligeError
from zellige.diagnostics.findings import Finding
from zellige.runtime.kernel import Kernel
from zellige.verify import verify

FILES = sorted(p for p in Path(__file__).parent.glob("*.py") if not p.name.startswith(("test_", "__")))
EXHIBITS = {1, 2, 4, 9, 11, 12, 14, 15, 16}


@dataclass(frozen=True)
class Expected:
    code: str
    shows: tuple[str, ...]
    exhibit: int | None


def header(path: Path) -> Expected:
    fields = dict(re.findall(r"^# (\w+): *(.*)$", path.read_text(), re.MULTILINE))
    shows = tuple(s.strip() for s in fields["shows"].split(",") if s.strip())
    return Expected(fields["code"], shows, int(fields["exhibit"]) if "exhibit" in fields else None)


def kernel_in(path: Path) -> Kernel:
    spec = importlib.util.spec_from_file_location(f"rejected_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = [v for v in vars(module).values() if isinstance(v, Kernel)]
    return found


def refusals(kernel: Kernel) -> tuple[Finding, ...]:
    statics, bindings = next(kernel.variants())
    return verify(kernel.lower(statics, bindings)).findings


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_kernel_is_refused_with_its_code_and_counterexample(path: Path) -> None:
    expected = header(path)
    kernel = kernel_in(path)
    if expected.code < "ZL02":
        with pytest.raises(ZelligeError) as caught:
            refusals(kernel)
        assert caught.value.code == expected.code
        return
    found = refusals(kernel)
    assert found, "accepted"
    match = next((f for f in found if f.code == expected.code), None)
    assert match is not None, [f.code for f in found]
    assert match.span.file == str(path)
    assert set(expected.shows) <= set(match.facts), match.facts
    assert match.help and match.why


def test_there_are_enough_and_the_museum_is_among_them() -> None:
    assert len(FILES) >= 40
    assert {header(p).exhibit for p in FILES} >= EXHIBITS
