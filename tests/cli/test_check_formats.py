"""`zellige check --format sarif`, `--skip-others` and `--watch`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_check import BAD, GOOD, run, write

import zellige
from zellige.cli.watch import Changes, imported
from zellige.diagnostics.codes import CODES


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path / "cache"))


def test_sarif_has_what_its_schema_requires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", good=GOOD, bad=BAD, broken="import nowhere_at_all")
    monkeypatch.chdir(tmp_path)
    result = run("check", tmp_path / "a", "--format", "sarif")
    assert result.exit_code == 1
    log = json.loads(result.output)
    assert log["version"] == "2.1.0" and "sarif" in log["$schema"]
    (one,) = log["runs"]
    driver = one["tool"]["driver"]
    assert driver["name"] == "zellige"
    rules = [rule["id"] for rule in driver["rules"]]
    assert rules == ["ZL0130", "ZL0201"] and len(one["results"]) == 2
    for found in one["results"]:
        assert rules[found["ruleIndex"]] == found["ruleId"] and found["level"] == "error" and found["message"]["text"]
    (shift,) = [r for r in one["results"] if r["ruleId"] == "ZL0201"]
    physical = shift["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "a/bad.py"
    assert physical["region"] == {"startLine": 11, "startColumn": 12, "endLine": 11, "endColumn": 20}
    assert driver["rules"][1]["shortDescription"]["text"] == CODES["ZL0201"]
    assert shift["properties"]["facts"]["sizes"] == "M = 1"


def test_sarif_of_proved_kernels_has_no_results(tmp_path: Path) -> None:
    result = run("check", write(tmp_path / "a", good=GOOD), "--format", "sarif")
    assert result.exit_code == 0 and json.loads(result.output)["runs"][0]["results"] == []


def test_files_that_do_not_import_zellige_can_be_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", good=GOOD, other="raise SystemError('imported')")
    assert run("check", folder).exit_code == 1
    result = run("check", folder, "--skip-others")
    assert result.exit_code == 0 and "1 kernel: all proved" in result.output


def test_a_change_is_seen_once_with_the_files_that_import_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tiles="SIZE = 3", kernels="from tiles import SIZE", other="import json")
    changes = Changes([folder])
    assert changes.look() == []
    (folder / "tiles.py").write_text("SIZE = 44")
    assert changes.look() == [folder / "kernels.py", folder / "tiles.py"]
    assert changes.look() == []
    (folder / "new.py").write_text("")
    (folder / "other.py").unlink()
    assert changes.look() == [folder / "new.py"]


def test_imports_are_read_without_running_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("import a.b\nfrom c.d import e\nfrom . import f\nraise SystemExit")
    assert imported(path) == {"a", "b", "c", "d", "e", "f"}
    path.write_text("def (:")
    assert imported(path) == set()


def test_watching_checks_again_what_changes(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", kernel=GOOD)
    environment = {**os.environ, "PYTHONPATH": str(Path(zellige.__file__).parents[1])}
    command = [sys.executable, "-u", "-m", "zellige", "check", "--watch", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    killer = threading.Timer(60, process.kill)  # a hang fails the test, by an end of the output
    killer.start()
    try:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if line.startswith("watching"):
                assert "1 kernel: all proved" in seen
                (folder / "kernel.py").write_text(BAD)
            if line.startswith("1 kernel: 0 proved"):
                break
        assert "error[ZL0201]" in seen and "1 kernel: 0 proved, 1 refused" in seen
    finally:
        process.kill()
        process.wait()
        killer.cancel()
