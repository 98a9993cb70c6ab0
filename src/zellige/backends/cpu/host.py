"""What LLVM says about this machine, kept on disk: a process whose kernels are all compiled need not load LLVM to ask again."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from zellige.backends.cpu.cache import cache_folder, read_entry, write_entry

_VARYING = ("processor", "core id", "apicid", "initial apicid", "physical id", "cpu MHz", "bogomips", "BogoMIPS")
"""Lines of /proc/cpuinfo that differ between cores, or from one moment to the next."""


@dataclass(frozen=True, slots=True)
class Host:
    """LLVM's names of this machine: its triple, processor and features ("+avx2,-sse4a,…"), and LLVM's own version."""

    triple: str
    cpu: str
    features: str
    llvm: str


@functools.cache
def host() -> Host:
    """This machine, as LLVM sees it; from the cache folder if this LLVM has been asked on such a machine before."""
    identity = _identity()
    path = None if identity is None else cache_folder() / f"{identity}.host"
    if path is not None:
        known = read_entry(path)
        if known is not None:
            return Host(**json.loads(known))
    found = _ask_llvm()
    if path is not None:
        write_entry(path, json.dumps(asdict(found)).encode())
    return found


def _ask_llvm() -> Host:
    import llvmlite.binding as llvm

    version = ".".join(map(str, llvm.llvm_version_info))
    return Host(llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), version)


def _identity() -> str | None:
    """A hash of the processor's description and of LLVM's library; None where the system gives no description."""
    package = importlib.util.find_spec("llvmlite")
    folders = [] if package is None else package.submodule_search_locations or []
    libraries = [path for folder in folders for path in sorted(Path(folder).glob("binding/*llvmlite*"))]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in libraries]
    except OSError:
        return None  # not Linux
    if not stats:
        return None
    kinds = sorted({line for line in lines if not line.startswith(_VARYING)})
    return hashlib.sha256(repr((platform.machine(), kinds, stats)).encode()).hexdigest()
