"""Model families, one declarative file each: a model lists its weights and its layers in calls of verified kernels.

`MODELS` names the module of each architecture that this installation runs; adding a family is one file and one line.
"""

from __future__ import annotations

MODELS: dict[str, str] = {"llama": "zellige.llm.models.llama", "qwen3": "zellige.llm.models.llama"}
