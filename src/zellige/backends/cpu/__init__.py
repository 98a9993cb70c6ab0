"""The CPU backend: tile IR to machine code through LLVM, run by a native thread pool.

Start with `compile.py` (what one calls), then `lower.py` (how a tile becomes loops over vectors) and `pool.ll`
(how launches run). Imports `ir` and `diagnostics` only; nothing here knows the language, the verifier or the runtime.
"""
