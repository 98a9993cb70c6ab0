"""All codes, in one table, and their long explanations (``explanations/CODE.md``).

Ranges: ZL01xx the language, ZL02xx bounds, ZL03xx races, coverage and initialisation, ZL04xx overflow, division and
contracts, ZL05xx host and runtime, ZL06xx model files, ZL07xx requests and sampling, ZL08xx network and cache,
ZL09xx compiling for GPUs.
"""

from __future__ import annotations

from pathlib import Path

from zellige.diagnostics.errors import ZelligeError

CODES: dict[str, str] = {
    "ZL0101": "a tile operation is called outside a kernel",
    "ZL0102": "a parameter's annotation is not a type of the language",
    "ZL0103": "a parameter is on the wrong side of '*'",
    "ZL0104": "wrong arguments",
    "ZL0105": "wrong dtype",
    "ZL0106": "shapes do not fit",
    "ZL0107": "a reduction over lanes that may be inactive needs a pad",
    "ZL0108": "this cannot index, or be indexed",
    "ZL0109": "an array is used against its ownership",
    "ZL0110": "the grid or a span is declared wrongly",
    "ZL0111": "control flow that kernels do not have",
    "ZL0112": "a static condition is false",
    "ZL0113": "zl.unsafe is used wrongly",
    "ZL0114": "Python that kernels do not have",
    "ZL0115": "a name has no value here",
    "ZL0116": "no such attribute or method",
    "ZL0117": "the source of a kernel cannot be found",
    "ZL0118": "a device function calls itself",
    "ZL0119": "a name changes its type in a loop or branch",
    "ZL0120": "an if on a tile",
    "ZL0121": "lanes are inactive on one path only",
    "ZL0130": "a file cannot be loaded",
    "ZL0131": "there is no such kernel",
    "ZL0132": "an option does not fit the kernel",
    "ZL0133": "this cannot be drawn",
    "ZL0134": "this cannot be measured or planned",
    "ZL0201": "index out of bounds",
    "ZL0202": "gathered position outside the tile",
    "ZL0301": "two programs meet in one element",
    "ZL0302": "two lanes of one store meet",
    "ZL0303": "an output is not fully written",
    "ZL0305": "a store to an array of packed blocks",
    "ZL0401": "index arithmetic overflows",
    "ZL0402": "division by zero in integer arithmetic",
    "ZL0403": "a value does not fit the type it is converted to",
    "ZL0404": "a stored value breaks its array's contract",
    "ZL0405": "an update of an array with a contract",
    "ZL0406": "an output's contract relates its elements",
    "ZL0501": "an argument has the wrong dtype",
    "ZL0502": "arguments do not fit",
    "ZL0503": "an array that is written shares memory",
    "ZL0504": "read before anything was written",
    "ZL0505": "values break a contract",
    "ZL0506": "no memory",
    "ZL0507": "a precondition is false",
    "ZL0508": "a static parameter or option has no value that it can have",
    "ZL0509": "there is no such backend",
    "ZL0510": "the packages for GPUs are not installed",
    "ZL0511": "there is no NVIDIA driver",
    "ZL0512": "there is no such GPU",
    "ZL0513": "machine code for another GPU",
    "ZL0514": "more shared memory than the GPU has",
    "ZL0515": "not the multiple that was promised",
    "ZL0516": "more programs than a grid has",
    "ZL0517": "the GPU's driver refuses a request",
    "ZL0518": "no such CPU instruction set, or not on this machine",
    "ZL0519": "a CPU tile's extent is not known when the kernel is compiled",
    "ZL0521": "this cannot be recorded, or replayed",
    "ZL0522": "a guard found an index out of range",
    "ZL0523": "a stream cannot be used here",
    "ZL0526": "programs that wait for each other do not all fit on the GPU",
    "ZL0527": "a tensor is in the memory of another device",
    "ZL0531": "arrays of two kernels cannot be one",
    "ZL0532": "what a kernel reads is not shown to be what another stored",
    "ZL0533": "two kernels have grids that do not fit together",
    "ZL0601": "there is no such model",
    "ZL0602": "a model file is damaged",
    "ZL0603": "a model file is truncated",
    "ZL0604": "the model's architecture is not supported",
    "ZL0605": "a tensor's format is not supported",
    "ZL0606": "tensors are missing",
    "ZL0607": "a tensor contradicts the model's settings",
    "ZL0608": "a setting of the model is missing or wrong",
    "ZL0609": "the tokenizer cannot be used",
    "ZL0610": "the chat template is missing or fails",
    "ZL0611": "a weight is not a number",
    "ZL0701": "a parameter is out of its range",
    "ZL0702": "the prompt is too long",
    "ZL0703": "a token id is not in the vocabulary",
    "ZL0704": "the prompt cannot be used",
    "ZL0706": "messages are not of the right form",
    "ZL0707": "token ids cannot be read",
    "ZL0708": "a chat has no such command",
    "ZL0709": "a conversation cannot be saved or loaded",
    "ZL0710": "a forward pass died",
    "ZL0711": "an LLM is not there any more, or not here",
    "ZL0801": "the default model cannot be fetched",
    "ZL0802": "a download fails",
    "ZL0803": "a download is not what it should be",
    "ZL0804": "no space on the disk",
    "ZL0805": "the cache folder cannot be used",
    "ZL0806": "the package for the hub is not installed",
    "ZL0807": "the hub has no such model",
    "ZL0901": "a GPU tile's extent is not known when the kernel is compiled",
    "ZL0902": "a reshape that GPU tiles cannot do",
    "ZL0904": "compiling for a GPU needs Triton",
    "ZL0905": "Triton refuses a kernel",
    "ZL0906": "a running sum that might not fit in 64 bits",
    "ZL0908": "a launch that cannot be part of one kernel",
    "ZL0909": "a kernel that warp groups cannot share",
}
"""What each code says, in a line."""


def titles() -> dict[str, str]:
    """All codes with their titles, in order."""
    return dict(sorted(CODES.items()))


def explanation(code: str) -> str:
    """The long form of a code. ZelligeError ZL0104 if there is no such code."""
    known = code.upper()
    if not known.startswith("ZL"):
        known = f"ZL{known}"
    if known not in CODES:
        raise ZelligeError(
            "ZL0104",
            f"there is no explanation of a code {code}",
            help="`zellige explain` without a code lists all of them",
        )
    body = (Path(__file__).parent / "explanations" / f"{known}.md").read_text(encoding="utf-8")
    return f"# {known}: {CODES[known]}\n\n{body.strip()}"
