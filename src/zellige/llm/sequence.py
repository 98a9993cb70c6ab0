"""The state of one request while it runs: its tokens, how many of them are in the KV cache, and its pages."""

from __future__ import annotations

from zellige.llm.protocol import SampleSpec
from zellige.llm.requests import GenerateRequest, ScoreRequest
from zellige.llm.sampling import SamplingParams


class Sequence:
    """`tokens` is prompt and answer so far; `computed` of them have keys and values in `pages`, or will when the steps
    that were started have run; those of `stored` are there for certain. The prefix cache knows the first `remembered` pages.

    Page i holds tokens i * page_size on. `drawing` counts tokens that steps in flight will draw: they come after `tokens` and
    can be computed on by the runner though nobody here knows them. One more token can be drawn once all but none remain:
    `remaining` counts the tokens still to be computed, 1 in steady decoding. `limit` is the most tokens it can have.
    """

    __slots__ = (
        "alters", "argmax", "arrival", "cached_tokens", "computed", "drawing", "drawn_in_lane", "lane", "limit", "logprobs", "pages",
        "params", "priority", "prompt_tokens", "remembered", "request_id", "running", "scores", "spec", "stored", "tokens",
    )  # fmt: skip

    def __init__(self, request_id: int, request: GenerateRequest | ScoreRequest, *, limit: int) -> None:
        self.request_id = request_id
        self.arrival = request_id
        self.priority = request.priority
        self.scores = isinstance(request, ScoreRequest)
        self.params = request.params if isinstance(request, GenerateRequest) else SamplingParams()
        self.spec: SampleSpec | None = None if self.scores else self.params.spec()
        self.alters = self.spec is not None and self.spec.alters
        self.tokens = list(request.prompt_ids if isinstance(request, GenerateRequest) else request.ids)
        self.prompt_tokens = len(self.tokens)
        self.limit = min(limit, self.prompt_tokens + (self.params.max_tokens or limit))
        self.cached_tokens: int | None = None  # of the prompt, found in the prefix cache when first admitted
        self.running = False
        self.drawing = 0
        self.restart()

    @property
    def remaining(self) -> int:
        """Tokens without keys and values yet; none of one that has all its tokens, or will when they are drawn."""
        length = len(self.tokens) + self.drawing
        return 0 if length >= self.limit and not self.scores else length - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def restart(self) -> None:
        """Forget everything computed, as if just arrived; drawn tokens stay, they are recomputed as a prompt."""
        self.computed = self.stored = self.remembered = 0
        self.pages: list[int] = []
        self.lane = -1
        self.drawn_in_lane = False
        self.logprobs: list[float] = []  # score requests: of the tokens after the first
        self.argmax: list[int] = []
