"""Verdicts: the same every time, kept by content, never trusted when damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.verify import accepted
from tests.verify.test_refused import KERNELS as REFUSED
from zellige.cli.kernel_files import kernels_in, load
from zellige.diagnostics.findings import VerificationError
from zellige.ir.ops import Function
from zellige.runtime.kernel import Kernel
from zellige.verify import Verdict, VerdictCache, cache, require_proved, verify


def ir(kernel: Kernel, **statics: int) -> Function:
    defaults, bindings = next(kernel.variants())
    return kernel.lower({**defaults, **statics}, bindings)


REFUSED_KERNEL = REFUSED["up_to_is_not_below"]


@pytest.mark.parametrize("kernel", [accepted.paged_sum, accepted.binary_search, REFUSED_KERNEL], ids=lambda k: k.name)
def test_two_verifications_agree_in_everything_but_time(kernel: Kernel) -> None:
    def untimed(verdict: Verdict) -> object:
        data = verdict.as_dict()
        return {**data, "seconds": 0, "records": [{**r, "seconds": 0} for r in data["records"]]}

    assert untimed(verify(ir(kernel))) == untimed(verify(ir(kernel)))


@pytest.mark.parametrize("kernel", [accepted.matmul, REFUSED_KERNEL], ids=lambda k: k.name)
def test_a_verdict_survives_json(kernel: Kernel) -> None:
    data = json.loads(json.dumps(verify(ir(kernel)).as_dict()))
    assert Verdict.from_dict(data).as_dict() == data


def test_a_kept_verdict_is_not_worked_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = ir(accepted.vector_add)
    first = VerdictCache(tmp_path).verify(function)
    monkeypatch.setattr("zellige.verify.verifier.verify", lambda _: pytest.fail("verified again"))
    assert VerdictCache(tmp_path).verify(ir(accepted.vector_add)).as_dict() == first.as_dict()


def test_other_static_parameters_and_other_verifiers_have_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    base = cache.key(ir(accepted.vector_add))
    assert cache.key(ir(accepted.vector_add)) == base
    assert cache.key(ir(accepted.vector_add, BM=128)) != base
    assert cache.key(ir(accepted.vector_add_by_hand)) != base
    monkeypatch.setattr(cache, "_verifier", lambda: b"another verifier")
    assert cache.key(ir(accepted.vector_add)) != base


def test_a_verdict_serves_wherever_the_source_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = VerdictCache(tmp_path / "verdicts")
    here, there = (_copied(tmp_path / folder) for folder in ("here", "there"))
    first = kept.verify(ir(here))
    assert not first.proved
    monkeypatch.setattr("zellige.verify.verifier.verify", lambda _: pytest.fail("verified again"))
    second = kept.verify(ir(there))
    assert {f.span.file for f in second.findings} == {str(tmp_path / "there" / "halo.py")}
    assert str(tmp_path) not in next((tmp_path / "verdicts").glob("*.json")).read_text()
    assert [f.message for f in second.findings] == [f.message for f in first.findings]


def _copied(folder: Path) -> Kernel:
    """The one kernel of a file of ``tests/rejected``, copied into a folder."""
    folder.mkdir()
    path = shutil.copy(Path(__file__).parent.parent / "rejected" / "halo.py", folder)
    (kernel,) = kernels_in(load(Path(path)))
    return kernel


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"proved":false', '"proved":true'),
        lambda text: text.replace("up_to_is_not_below", "something_else"),
    ],
    ids=["truncated", "empty", "flipped", "renamed"],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: object) -> None:
    function = ir(REFUSED_KERNEL)
    VerdictCache(tmp_path).verify(function)
    (entry,) = tmp_path.glob("*.json")
    assert callable(damage)
    entry.write_text(damage(entry.read_text()))
    assert not VerdictCache(tmp_path).verify(function).proved
    (again,) = tmp_path.glob("*.json")
    assert '"proved":false' in again.read_text()


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert VerdictCache(blocked / "below").verify(ir(accepted.vector_add)).proved


def test_a_refused_kernel_is_an_error_with_all_findings() -> None:
    with pytest.raises(VerificationError) as caught:
        require_proved(ir(REFUSED_KERNEL))
    assert caught.value.code == "ZL0201"
    assert "x[n]" in caught.value.render() and "zellige explain ZL0201" in caught.value.render()


def test_queries_can_be_dumped_as_smt_lib() -> None:
    queries: list[str] = []
    verify(ir(accepted.kv_append), queries.append)
    assert queries and all("(check-sat)" in q and "(assert" in q for q in queries)
