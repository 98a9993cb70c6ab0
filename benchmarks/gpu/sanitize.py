"""``correctness.py`` under NVIDIA's compute-sanitizer: memcheck, racecheck, initcheck, synccheck. Needs a GPU whose driver allows it.

python benchmarks/gpu/sanitize.py [--every 6 [--offset 1]] [--only KERNEL,…] [TOOL…]

racecheck names kernels by the files that they were compiled from, which are named by their keys in the cache: fill it with an empty
TRITON_CACHE_DIR, for what Triton kept of an earlier version of ours has an earlier name.

Where warps of a block have roles, Triton tells them theirs through a byte of shared memory, written in front of a barrier of the whole
block and read behind one. racecheck takes that for a race, as the two sides wait at the same barrier in different places of the code.
Reports of exactly that are counted apart, by the instructions they name; any other is an error.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
BARRIER = "BAR.SYNC.DEFER_BLOCKING 0x1"
"""Of the whole block: all its warps, and no others, wait at it."""
READ = re.compile(r"Race reported between Read access at \S+\+0x([0-9a-f]+) in zellige_([0-9a-f]{16})\.py")
WRITE = re.compile(r"and Write access at \S+\+0x([0-9a-f]+) in")


@cache
def _instructions(key: str) -> list[tuple[int, str]]:
    """Offset and text of each instruction of a kernel in the cache, by the start of its key."""
    from zellige.runtime.paths import cache_dir

    (folder,) = (cache_dir("cuda") / key[:2]).glob(f"{key}*")
    with tempfile.TemporaryDirectory() as room:
        copy = Path(room) / "kernel.cubin"
        copy.write_bytes((folder / "kernel.cubin").read_bytes())
        text = subprocess.run(["cuobjdump", "--dump-sass", copy], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", text, re.MULTILINE)
    return [(int(offset, 16), instruction) for offset, instruction in found]


def hand_overs(report: str) -> tuple[int, list[str]]:
    """How many of racecheck's reports are of a role being handed over, and those that are not."""
    known, others = 0, []
    for part in report.split("Race reported")[1:]:
        head, writes = READ.search("Race reported" + part), [int(x, 16) for x in WRITE.findall(part)]
        if head is not None and writes and _handed_over(_instructions(head.group(2)), int(head.group(1), 16), writes):
            known += 1
        else:
            others.append("Race reported" + part.split("\n========= \n")[0])
    return known, others


def _handed_over(code: list[tuple[int, str]], read: int, writes: list[int]) -> bool:
    """Whether a byte is read right behind the block's barrier, and each write has nothing but writes between it and one."""
    at = {offset: i for i, (offset, _) in enumerate(code)}
    if read not in at or not code[at[read]][1].startswith("LDS.U8") or code[at[read] - 1][1] != BARRIER:
        return False
    for write in writes:
        i = at.get(write, 0)
        if not code[i][1].startswith("STS"):
            return False
        while code[i][1].startswith("STS"):  # the roles of more than 8 warps take two
            i += 1
        if code[i][1] != BARRIER:
            return False
    return True


def main() -> None:
    """Prints each tool's verdict; exits with 1 if one found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="*", default=TOOLS)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--only", default="", help="checks of these kernels, by name")
    options = parser.parse_args()
    script = Path(__file__).with_name("correctness.py")
    sys.path.insert(0, str(script.parents[2] / "src"))
    verdicts, bad = [], False
    for tool in options.tools:
        started = time.time()
        command = [
            "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "10000",
            sys.executable, str(script), "--every", str(options.every), "--offset", str(options.offset),
            "--no-demonstrations", "--seed", "1", "--only", options.only,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = [
            line for line in done.stdout.splitlines() if "SUMMARY" in line or line.startswith(("all right", "WRONG"))
        ]
        ran = [line for line in done.stdout.splitlines() if line.endswith("checks")]
        failed, known = done.returncode != 0, 0
        if tool == "racecheck" and done.returncode == 9 and "all right" in said:
            known, others = hand_overs(done.stdout)
            said.append(f"{known} reports of roles handed over, {len(others)} others")
            print("\n".join(others))
            failed = bool(others) or known == 0
        bad |= failed
        if failed:
            print("\n".join((done.stdout + done.stderr).splitlines()[:60]))
        verdicts.append(
            f"{tool:>10}: exit {done.returncode}, {', '.join((*ran, *said))} ({time.time() - started:.0f} s)"
        )
    print("\n## compute-sanitizer over correctness.py\n" + "\n".join(verdicts))
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
