"""Two sides that take turns: each in a process of its own, so that threads and libraries of one do not disturb the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def serve(side: Any) -> None:
    """A worker: one JSON request a line on standard input, one JSON number a line on standard output."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(side, name)(*arguments)), flush=True)


class Worker:
    """A side in a process of its own."""

    def __init__(self, python: str, *arguments: str) -> None:
        begun = time.perf_counter()
        self._process = subprocess.Popen([python, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()
        self.ready_s = time.perf_counter() - begun

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended early (exit status {self._process.wait()})")
        return json.loads(line)

    def call(self, name: str, *arguments: Any) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def wait_until_calm(patience: float) -> None:
    """Returns when the processors have been idle for a second (our two sides sleep now), or after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and busy_share(1.0) > 0.06:
        time.sleep(1.0)


def busy_share(seconds: float) -> float:
    """The share of processor time that was used in the next ``seconds``."""

    def read() -> tuple[int, int]:
        fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1.0 - (idle_after - idle) / max(1, total_after - total)


def machine() -> str:
    """The processor, its threads, and the load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{name}, {len(os.sched_getaffinity(0))} threads, load {os.getloadavg()[0]:.2f}"
