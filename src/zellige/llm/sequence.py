"""The state of one request while it runs: its tokens, how many of them are in the KV cache, and its pages."""

from __future__ import annotations

from zellige.llm.requests import GenerateRequest, ScoreRequest
from zellige.llm.sampling import SamplingParams


class Sequence:
    """`tokens` is prompt and answer so far; `computed` of them have keys and values in `pages`.

    Page i holds tokens i * page_size on. One more token can be drawn once all but none remain: `remaining` counts the
    tokens still to be computed, 1 in steady decoding.
    """

    __slots__ = (
        "argmax", "arrival", "cached_tokens", "computed", "logprobs", "pages", "params", "prompt_tokens", "request_id",
        "scores", "tokens",
    )  # fmt: skip

    def __init__(self, request_id: int, request: GenerateRequest | ScoreRequest, arrival: int) -> None:
        self.request_id = request_id
        self.arrival = arrival
        self.scores = isinstance(request, ScoreRequest)
        self.params = request.params if isinstance(request, GenerateRequest) else SamplingParams()
        self.tokens = list(request.prompt_ids if isinstance(request, GenerateRequest) else request.ids)
        self.prompt_tokens = len(self.tokens)
        self.computed = 0
        self.cached_tokens: int | None = None  # of the prompt, found in the prefix cache when first admitted
        self.pages: list[int] = []
        self.logprobs: list[float] = []  # score requests: of the tokens after the first
        self.argmax: list[int] = []

    @property
    def remaining(self) -> int:
        """Tokens without keys and values yet."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def restart(self) -> None:
        """Forget everything computed, as if just arrived; drawn tokens stay, they are recomputed as a prompt."""
        self.computed = 0
        self.pages = []
        self.logprobs, self.argmax = [], []
