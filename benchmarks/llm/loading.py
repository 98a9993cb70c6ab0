"""How fast weights come from the disk, and from the page cache, to the device, beside what the disk and the bus give.

    python benchmarks/llm/loading.py Qwen3-8B --layers 12 --folder DIR     on the GPU machine; DIR on the disk that counts
    … --as-far-as-host                                                       without a GPU: into the buffers that it copies from

Writes a model with random weights in Hugging Face's layout into DIR (again if it is another one), and leaves it there. The disk: the
whole model in reads of 16 MB, one after the other and by several threads, the best of both; before each run the files' pages are
dropped. The bus: copies of pinned memory. Runs take turns, as disks that others share differ from one run to the next; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from zellige.llm.models.fused import Weights
from zellige.llm.models.loading import Loader
from zellige.llm.weights.config import ModelConfig
from zellige.llm.weights.known import known_config
from zellige.llm.weights.model_file import expected_tensors, open_model
from zellige.llm.weights.safetensors_dir import _IN_EXPERT, _IN_LAYER, _TOP
from zellige.runtime.cuda import staging

READ, SHARD, TURNS, THREADS = 16 << 20, 1 << 30, 3, 6


def hub_name(name: str) -> str:
    """Hugging Face's name of a tensor that GGUF calls ``name``."""
    stem, _, kind = name.rpartition(".")
    if stem == "output":
        return f"lm_head.{kind}"
    for hub, ours in _TOP.items():
        if stem == ours:
            return f"model.{hub}.{kind}"
    _, layer, part, *expert = stem.split(".")
    names = {ours: hub for hub, ours in (_IN_EXPERT if expert else _IN_LAYER).items()}
    inner = f"mlp.experts.{expert[0]}.{names[part]}" if expert else names[part]
    return f"model.layers.{layer}.{inner}.{kind}"


def write_model(folder: Path, config: ModelConfig) -> None:
    """A model of random bytes in shards, if the folder does not have it."""
    settings = {
        "model_type": config.architecture, "vocab_size": config.vocab_size, "hidden_size": config.width,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim, "intermediate_size": config.ffn_width, "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta, "max_position_embeddings": config.context_length,
        "tie_word_embeddings": config.tied_embeddings, "hidden_act": "silu", "num_experts": config.experts,
        "num_experts_per_tok": config.experts_used, "moe_intermediate_size": config.ffn_width, "norm_topk_prob": True,
    }  # fmt: skip
    text = json.dumps(settings)
    if (folder / "config.json").exists() and (folder / "config.json").read_text() == text:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):
        old.unlink()
    (folder / "tokenizer.json").write_text("{}")
    noise = np.random.default_rng(1).integers(0, 1 << 14, 1 << 24, np.uint16).view(ml_dtypes.bfloat16)  # finite
    shard: dict[str, Any] = {}
    held = number = 0

    def flush() -> None:
        nonlocal shard, held, number
        number += 1
        path = folder / f"model-{number:05}.safetensors"
        save_file(shard, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        shard, held = {}, 0

    for name, shape in sorted(expected_tensors(config, split_experts=bool(config.experts))):
        shard[hub_name(name)] = np.resize(noise, shape)
        held += shard[hub_name(name)].nbytes
        if held > SHARD:
            flush()
    flush()
    (folder / "config.json").write_text(text)


def drop_pages(files: list[Path]) -> None:
    """The files are not in the page cache afterwards."""
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_all(files: list[Path], threads: int) -> None:
    """Reads files by several threads, a stretch each in turns."""
    pieces = [(path, at) for path in files for at in range(0, path.stat().st_size, READ)]
    descriptors = {path: os.open(path, os.O_RDONLY) for path in files}

    def work(first: int) -> None:
        room = np.empty(READ, np.uint8)
        for path, at in pieces[first::threads]:
            os.preadv(descriptors[path], [room.data], at)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    for descriptor in descriptors.values():
        os.close(descriptor)


class Host:
    """What ``Loader`` asks of an executor, as far as the buffers from which a GPU would copy."""

    def __init__(self) -> None:
        class Buffer(SimpleNamespace):
            from_handle = staticmethod(lambda address, size, owner: Buffer(handle=address))

            def copy_to(self, target: Any, stream: Any) -> None:
                pass

        class Resource:
            def allocate(self, size: int) -> Any:
                room = np.ones(size, np.uint8)  # its pages are there
                return SimpleNamespace(room=room, handle=room.__array_interface__["data"][0])

        driver: Any = SimpleNamespace(Buffer=Buffer, LegacyPinnedMemoryResource=Resource)
        sys.modules["cuda.core"] = driver
        done, nowhere = SimpleNamespace(is_done=True, sync=lambda: None), cast("Any", None)
        self.staging = staging.Staging(nowhere, SimpleNamespace(record=lambda: done))

    def gathered(self, pieces: Any, shape: Any, dtype: Any) -> None:
        block: Any = SimpleNamespace(address=0, size=sum(piece.nbytes for piece in pieces))
        self.staging.gather(pieces, block)

    def synchronise(self) -> None:
        pass


def bus(executor: Any) -> float:
    """Bytes a second from pinned memory to the device."""
    from zellige.ir.dtypes import bf16

    held = executor._staging
    target = executor.empty((READ // 2,), bf16)
    source = held._resource.allocate(READ)
    there, here = staging._part(target.storage.memory, 0, READ), staging._whole(source, READ)
    rates = []
    for _ in range(4):
        executor.synchronise()
        begun = time.perf_counter()
        for _ in range(64):
            held._copy(there, here)
        executor.synchronise()
        rates.append(64 * READ / (time.perf_counter() - begun))
    return max(rates)


def rates(folder: Path, config: ModelConfig, executor: Any) -> Iterator[tuple[str, float]]:
    """One turn: what was measured, and bytes a second."""
    files = sorted(folder.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)

    def load() -> None:
        loader = Loader(open_model(folder), executor)
        held = Weights.made(config, loader.weight, loader.matrix)
        executor.synchronise()
        del held

    kinds: dict[str, Callable[[], None]] = {
        "reads, one thread": lambda: read_all(files, 1),
        f"reads, {THREADS} threads": lambda: read_all(files, THREADS),
        "loading": load,
    }
    for pages in ("disk", "page cache"):
        for name, action in kinds.items():
            if pages == "disk":
                drop_pages(files)
            begun = time.perf_counter()
            action()
            yield f"{name}, {pages}", size / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--layers", type=int, help="how many of its layers")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--as-far-as-host", action="store_true")
    parser.add_argument("--turns", type=int, default=TURNS)
    options = parser.parse_args()
    config = known_config(options.model)
    config = replace(config, layers=options.layers or config.layers)
    write_model(options.folder, config)
    if options.as_far_as_host:
        executor: Any = Host()
    else:
        from zellige.runtime.cuda.executor import CudaExecutor

        executor = CudaExecutor.open()
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.turns):
        for name, rate in rates(options.folder, config, executor):
            found[name].append(rate / 1e9)
    middle = {name: statistics.median(values) for name, values in found.items()}
    size = sum(path.stat().st_size for path in options.folder.glob("*.safetensors"))
    print(f"{options.model}, {config.layers} layers, {size / 1e9:.1f} GB; GB/s, median (each turn)")
    for name, values in found.items():
        print(f"  {name:24} {middle[name]:6.2f} ({', '.join(f'{value:.2f}' for value in values)})")
    disk = max(rate for name, rate in middle.items() if name.startswith("reads") and name.endswith("disk"))
    print(f"  loading from the disk: {middle['loading, disk'] / disk:.0%} of what the disk gives")
    if not options.as_far_as_host:
        gives = bus(executor) / 1e9
        print(f"  bus {gives:.1f} GB/s; loading from the page cache: {middle['loading, page cache'] / gives:.0%} of it")


if __name__ == "__main__":
    main()
