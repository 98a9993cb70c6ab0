"""The library of verified kernels, one file a family. May import ``zellige`` (the language and runtime) only.

``zellige audit`` proves every kernel of this package and lists what was proved, and how.
"""
