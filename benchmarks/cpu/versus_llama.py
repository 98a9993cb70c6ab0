"""Zellige against llama.cpp on one model file: two processes that take turns, 2 threads each.

    PYTHONPATH=src python benchmarks/cpu/versus_llama.py MODEL.gguf [--peer PYTHON] [--quick] [--only NAME,NAME]

The peer is llama-cpp-python, built for this machine (AVX-512, VNNI, BF16); ``--peer`` names the interpreter that has it,
if not this one. Both choose the likeliest token on the host after every step. A turn is one measurement of each side; the ratio of
a row is the median of the turns' ratios, its spread their range. Waits for the other processes of the machine to calm
down, ``--patience`` seconds a row at most, and says what the load was. ``--busy`` measures processor time of one thread each,
for a machine that never calms down.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from turns import Worker, machine, serve, wait_until_calm

BUSY = "--busy" in sys.argv
"""Whether the machine has other work: then one thread each, and processor time instead of wall time."""
THREADS = 1 if BUSY else 2
CLOCK = time.process_time if BUSY else time.perf_counter
CONTEXT = 8192
BATCH, BATCH_PROMPT = 8, 64


class Side(Protocol):
    """What is measured: each call returns seconds."""

    def prefill(self, tokens: int, seed: int) -> float:
        """A new prompt up to its first token."""

    def start(self, tokens: int, sequences: int, seed: int) -> float:
        """Begins prompts that `steps` continues."""

    def steps(self, count: int) -> float:
        """``count`` more tokens of every sequence that `start` began."""

    def resident(self) -> float:
        """Resident bytes of this process (mapped model included)."""


def prompt_ids(tokens: int, seed: int) -> list[int]:
    """Ids of ordinary words, other ones for every seed, so that nothing is found in a prefix cache."""
    import numpy as np

    return [int(i) for i in np.random.default_rng(seed).integers(300, 40000, tokens)]


def resident_bytes() -> float:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


class Ours:
    """Zellige through its public interface."""

    def __init__(self, path: str) -> None:
        os.environ["ZELLIGE_THREADS"] = str(THREADS)
        from zellige.llm import LLM, SamplingParams

        self._greedy = SamplingParams(max_tokens=CONTEXT, ignore_eos=True)
        self._one = SamplingParams(max_tokens=1, ignore_eos=True)
        self._llm = LLM(path, max_model_len=CONTEXT, kv_tokens=CONTEXT + 16)
        self._streams: list[Any] = []

    def prefill(self, tokens: int, seed: int) -> float:
        begun = CLOCK()
        self._llm.generate([prompt_ids(tokens, seed)], self._one)
        return CLOCK() - begun

    def start(self, tokens: int, sequences: int, seed: int) -> float:
        begun = CLOCK()
        for stream in self._streams:
            stream.close()
        self._streams = [self._llm.stream(prompt_ids(tokens, seed + i), self._greedy) for i in range(sequences)]
        for stream in self._streams:
            next(stream)
        return CLOCK() - begun

    def steps(self, count: int) -> float:
        begun = CLOCK()
        for _ in range(count):
            for stream in self._streams:
                next(stream)
        return CLOCK() - begun

    def resident(self) -> float:
        return resident_bytes()


class Peer:
    """llama.cpp through the C interface of llama-cpp-python, without its Python sampling."""

    def __init__(self, path: str) -> None:
        import llama_cpp as lib

        self._lib = lib
        self._quiet = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self._quiet, None)
        lib.llama_backend_init()
        self._model = lib.llama_load_model_from_file(path.encode(), lib.llama_model_default_params())
        self._vocabulary = lib.llama_n_vocab(lib.llama_model_get_vocab(self._model))
        self._contexts: dict[int, Any] = {}
        self._sequences, self._position, self._last = 1, 0, [0]
        self._batch = lib.llama_batch_init(512, 0, 1)

    def _context(self, sequences: int) -> Any:
        if sequences not in self._contexts:
            lib = self._lib
            params = lib.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = CONTEXT, 512, 512, sequences
            params.n_threads = params.n_threads_batch = THREADS
            self._contexts[sequences] = lib.llama_new_context_with_model(self._model, params)
        return self._contexts[sequences]

    def _decode(self, context: Any, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """One pass over (id, position, sequence, logits wanted); the likeliest next tokens."""
        import numpy as np

        batch, lib = self._batch, self._lib
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        if lib.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        found = []
        for i, row in enumerate(rows):
            if row[3]:
                logits = lib.llama_get_logits_ith(context, i)
                found.append(int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax()))
        return found

    def _prompt(self, context: Any, ids: list[int], sequence: int) -> int:
        for first in range(0, len(ids), 512):
            part = ids[first : first + 512]
            last = first + len(part) == len(ids)
            rows = [(token, first + i, sequence, last and i == len(part) - 1) for i, token in enumerate(part)]
            found = self._decode(context, rows)
        return found[0]

    def _clear(self, context: Any) -> None:
        self._lib.llama_memory_clear(self._lib.llama_get_memory(context), False)

    def prefill(self, tokens: int, seed: int) -> float:
        context, ids = self._context(1), prompt_ids(tokens, seed)
        self._clear(context)
        begun = CLOCK()
        self._prompt(context, ids, 0)
        return CLOCK() - begun

    def start(self, tokens: int, sequences: int, seed: int) -> float:
        context = self._context(sequences)
        self._clear(context)
        begun = CLOCK()
        self._last = [self._prompt(context, prompt_ids(tokens, seed + i), i) for i in range(sequences)]
        self._sequences, self._position = sequences, tokens
        return CLOCK() - begun

    def steps(self, count: int) -> float:
        context = self._context(self._sequences)
        begun = CLOCK()
        for _ in range(count):
            self._last = self._decode(context, [(token, self._position, i, True) for i, token in enumerate(self._last)])
            self._position += 1
        return CLOCK() - begun

    def resident(self) -> float:
        return resident_bytes()


class Table:
    """Measures both sides in turns and prints a row for each quantity."""

    def __init__(self, ours: Worker, peer: Worker, *, patience: float) -> None:
        self._sides = (ours, peer)
        self._patience = patience

    def row(self, title: str, call: list[tuple[Any, ...]], work: float, turns: int, unit: str = "tok/s") -> None:
        """``call`` is made once a turn on each side, in changing order; ``work`` units are done in the seconds it returns."""
        if not BUSY:
            wait_until_calm(self._patience)
        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(turns):
            name, *arguments = call[turn % len(call)]
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                seconds[which].append(self._sides[which].call(name, *arguments))
        ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
        shown = [work / statistics.median(s) if unit == "tok/s" else statistics.median(s) * work for s in seconds]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {title} | {shown[0]:.1f} | {shown[1]:.1f} | {unit} | **{statistics.median(ratios):.2f} ×** | {spread} | {turns} |",
            flush=True,
        )

    def start(self, tokens: int, sequences: int) -> None:
        """Begins sequences on both sides, and takes two steps to be warm."""
        for side in self._sides:
            side.call("start", tokens, sequences, 7 * tokens)
            side.call("steps", 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--peer", default=sys.executable, help="interpreter that has llama-cpp-python")
    parser.add_argument("--only", default="memory,ttft,decode,prefill,batch,long", help="rows to measure")
    parser.add_argument("--busy", action="store_true", help="one thread each, processor time: where other work runs")
    parser.add_argument("--quick", action="store_true", help="fewer turns")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for a calm machine before a row")
    parser.add_argument("--serve", choices=("ours", "peer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(Ours(options.model) if options.serve == "ours" else Peer(options.model))
    only, turns = set(options.only.split(",")), 3 if options.quick else 9
    print(machine())
    sides = (sys.executable, "ours"), (options.peer, "peer")
    ours, peer = (
        Worker(python, __file__, options.model, *["--busy"] * BUSY, "--serve", kind) for python, kind in sides
    )
    print(f"ready after {ours.ready_s:.2f} s (ours), {peer.ready_s:.2f} s (llama.cpp); {THREADS} threads each")
    print("\n| | ours | llama.cpp | | ratio | its spread | turns |\n|---|---|---|---|---|---|---|")
    table = Table(ours, peer, patience=options.patience)
    seeds = range(1000, 1000 + turns)
    table.start(128, 1)
    if "decode" in only:
        table.row("decode, context 128 to 256", [("steps", 12)], 12, turns)
    for tokens in (128, 512):
        if "prefill" in only:
            ours.call("prefill", tokens, 1), peer.call("prefill", tokens, 1)
            table.row(f"prefill {tokens}", [("prefill", tokens, s) for s in seeds], tokens, turns)
    if "ttft" in only:
        ours.call("prefill", 16, 1), peer.call("prefill", 16, 1)
        table.row("time to first token, 16 tokens", [("prefill", 16, s) for s in seeds], 1e3, turns, "ms")
    if "memory" in only:
        size = Path(options.model).stat().st_size
        mine, theirs = ((side.call("resident") - size) / 1e6 for side in (ours, peer))
        print(
            f"| resident above the file's {size / 1e6:.0f} MB | {mine:.0f} | {theirs:.0f} | MB | {theirs / mine:.2f} × | | |"
        )
    if "batch" in only:
        table.start(BATCH_PROMPT, BATCH)
        table.row(f"decode, {BATCH} sequences, total", [("steps", 12)], 12 * BATCH, turns)
    for context in (4096, 8192):
        if "long" in only:
            table.start(context - 64, 1)
            table.row(f"decode, context {context}", [("steps", 6)], 6, min(turns, 9))
    print(machine())
    ours.end(), peer.end()


if __name__ == "__main__":
    main()
