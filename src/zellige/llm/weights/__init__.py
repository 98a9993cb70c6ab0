"""Model files: what is in them, checked before anything computes.

`gguf_file.py` reads the container, `config.py` turns its metadata into a `ModelConfig`, `safetensors_dir.py` does both
for a Hugging Face folder, `model_file.py` opens either and checks every tensor that the architecture needs. Tensors
stay memory-mapped (`runtime/mapped.py`) and packed. Heavy libraries are imported where used.
"""
