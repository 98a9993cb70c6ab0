"""Model families, one declarative file each, and the passes that run them.

`FAMILIES` lists the architectures that this installation runs; adding one is a file and a line, if it is made of parts that the passes
have. `fused.py` is the pass in bf16, f16 or fp8 for GPUs (it runs on the CPU as well), `packed.py` the one for packed weights on the CPU.
"""

from __future__ import annotations

from zellige.llm.models import llama, qwen2, qwen3, qwen3_moe
from zellige.llm.models.family import Family

FAMILIES: dict[str, Family] = {f.FAMILY.name: f.FAMILY for f in (llama, qwen2, qwen3, qwen3_moe)}
"""By GGUF's name of the architecture."""
