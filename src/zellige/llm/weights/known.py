"""Configurations of published models, so that they can be measured and planned without their files.

Source: the models' `config.json` on the Hugging Face hub; each family's file in `models/` lists its own."""

from __future__ import annotations

from zellige.diagnostics import ZelligeError
from zellige.llm.models import FAMILIES
from zellige.llm.weights.config import ModelConfig


def known_config(name: str) -> ModelConfig:
    """The configuration of a hub id such as `Qwen/Qwen3-4B`, or of its last part. ZelligeError ZL0604 for others."""
    sizes = {size: config for family in FAMILIES.values() for size, config in family.sizes.items()}
    found = sizes.get(name.rsplit("/", 1)[-1])
    if found is None:
        raise ZelligeError("ZL0604", f"the configuration of '{name}' is not known", help=f"known: {', '.join(sizes)}")
    return found
