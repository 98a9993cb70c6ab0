"""NVIDIA GPUs through ``cuda-core``: devices, streams, memory, loaded kernels, graphs.

Importing this works without a driver; ``device.open_device`` says what is missing. Start with ``launch.py``. May import
``backends.cuda`` and what that may.
"""
