"""Device-memory traffic of each kernel, read from the hardware's counters, over the fewest bytes that it must move.

    python benchmarks/gpu/traffic.py          needs ncu, and a GPU whose counters may be read

Counted by Nsight Compute with caches emptied before each kernel; bytes written count when they leave the L2 cache, so kernels
write far more than it holds, or little beside what they read.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from math import prod

CHOSEN = {
    ("rows", "copy", "4096-w8"), ("rows", "swiglu", "2048-w8"), ("rows", "rms_norm", "w8"),
    ("rows", "softmax", "w8"), ("rows", "add_rms_norm", "w8"), ("gemv", "19456x2560", "1-2048-w8"),
    ("gemv", "151936x2560", "2-1024-w8"), ("thin", "8x24576x4096", "64-128-w4-s4"),
    ("thin", "64x151936x2560", "64-128-w4-s4"), ("gemm", "4096", "persistent-s3-flat"), ("gemm", "8192", "tma-s3-group16"),
    ("gemm", "8192", "persistent-s3-flat"),
    ("attention", "8192", "64-64-w4-s3-band1"), ("attention", "8192", "64-64-w4-s3-band8"),
    *(("attention", "8192", f"128-128-w8-s3-band{band}-tma") for band in (1, 8, 16, 32)),
    *(("gemm", n, f"flat-s4-ab-group{g}") for n in ("4096", "8192") for g in (16, 32)),
    *(("gemm", n, f"groups2-64-256-s4-group{g}") for n in ("4096", "8192") for g in (8, 16)),
    ("decode", "64x4096", "2-64-w2-s4"), ("decode", "8x4096", "8-64-w2-s4"),
}  # fmt: skip
METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
ROWS, CONTEXT = 65536, 4096
SIZES = {"bf16": 2, "f32": 4, "i32": 4}


def launches() -> None:
    """Runs each kernel once and prints its name and the fewest bytes."""
    import torch
    from measure import variants
    from table_step import made

    known = {"scale": 0.088, "eps": 1e-6}
    for table in dict.fromkeys(t for t, _, _ in CHOSEN):
        for row, found in variants(table).items():
            for variant in found:
                if (table, row, variant.name) not in CHOSEN:
                    continue
                compiled = variant.kernel.compiled
                dims = {p.name: ROWS for p in compiled.parameters if p.kind == "dim"}
                arrays, least = {}, 0
                for name, (dtype, sizes) in variant.arrays.items():
                    shape = tuple(s or ROWS for s in sizes)  # 0: the number of rows, which is not known to the kernel
                    arrays[name] = made(name, dtype, shape)
                    if name == "length":
                        arrays[name].fill_(CONTEXT)
                    least += prod(shape) * SIZES[dtype] * (2 if name == "h" else 1)  # h is read and written
                scalars = {p.name: known[p.name] for p in compiled.parameters if p.kind == "scalar"}
                call = variant.call(arrays, scalars, dims)
                torch.cuda.synchronize()
                call()
                torch.cuda.synchronize()
                print(f"LAUNCH,{compiled.name},{table} {row} {variant.name},{least}", flush=True)
                del arrays, call
                torch.cuda.empty_cache()


def peers() -> None:
    """Runs torch's products (cuBLAS) and attention (cuDNN) of the same sizes once and prints kernel, name and fewest bytes."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    for n in (4096, 8192):
        a, b, c = (torch.randn(n, n, device="cuda").bfloat16() for _ in range(3))
        torch.mm(a, b, out=c)
        torch.cuda.synchronize()
        print(f"LAUNCH,nvjet,cuBLAS {n},{6 * n * n}", flush=True)
    q, k, v = (torch.randn(1, heads, 8192, 128, device="cuda").bfloat16() for heads in (32, 8, 8))
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.cuda.synchronize()
    print(f"LAUNCH,cudnn,cuDNN attention 8192,{2 * (q.numel() + k.numel() + v.numel() + out.numel())}", flush=True)


def measured(side: str) -> None:
    """Prints bytes moved over the fewest, of ours (``launches``) or of the ``peers``."""
    command = [
        "ncu", "--clock-control", "none", "--csv", "--metrics", ",".join(METRICS),
        "--kernel-name", "regex:.*_kernel$|nvjet.*|cudnn.*", sys.executable, __file__, side,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    wanted = [line.split(",") for line in lines if line.startswith("LAUNCH,")]
    table = [line for line in lines if line.startswith('"')]
    counted: dict[str, tuple[str, float]] = {}
    for record in csv.DictReader(io.StringIO("\n".join(table))):
        if record.get("Metric Name") not in METRICS:
            continue
        scale = {"byte": 1, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9}[record["Metric Unit"]]
        name, total = counted.get(record["ID"], (record["Kernel Name"], 0.0))
        counted[record["ID"]] = name, total + float(record["Metric Value"].replace(",", "")) * scale
    ours = [c for c in counted.values() if any(c[0].startswith(w[1]) for w in wanted)]
    if done.returncode or len(ours) != len(wanted) or not wanted:
        print("\n".join((done.stdout + done.stderr).splitlines()[-25:]))
        raise SystemExit(f"ncu: exit {done.returncode}, {len(wanted)} launches, {len(ours)} counted")
    for (_, kernel, what, least), (name, moved) in zip(wanted, ours, strict=True):
        if not name.startswith(kernel):
            raise SystemExit(f"counted {name} where {kernel} ran")
        print(f"{what:>44} {moved / 1e6:9.1f} MB  {moved / int(least):.3f} ×", flush=True)


def main() -> None:
    """Prints the table."""
    print("\n## device memory moved, over the fewest bytes")
    for side in ("launches", "peers"):
        measured(side)


if __name__ == "__main__":
    {"launches": launches, "peers": peers}.get(sys.argv[1] if len(sys.argv) > 1 else "", main)()
