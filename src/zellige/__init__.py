"""Zellige: a tile-kernel language whose kernels are proved memory-safe and race-free before they run.

Import as ``import zellige as zl``. What kernel authors write lives in ``zellige.lang``; ``zellige.kernels`` is the library of
verified kernels and ``zellige.llm`` the engine built on it.
"""
