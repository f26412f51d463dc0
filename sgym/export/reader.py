"""The reader's clock of one request: when the next token is due, and how late the worst one was.

The same arithmetic, in the same order, as `sgym.core.metric.deliver`, so an engine that feeds it
the times at which it delivers tokens has the numbers that a policy saw when it was trained.
"""

from sgym.export.view import NEVER, NO_LATENESS


class ReaderClock:
    """Due time and worst lateness of one request.

    Args:
        arrival: seconds.
        prompt: tokens, for `first_delay_per_prompt_token`.
        token_time: seconds per token: V.
        first_delay: seconds until the first token is due, less one `token_time`: D0.
        first_delay_per_prompt_token: seconds; added to D0 for each token of the prompt.
        from_first_token: `slo.origin: first_token`: deadlines count from the first token.
        clamp: `slo.clamp`: lateness is at least 0.
    """

    __slots__ = ("_from_first_token", "due", "generated", "lateness", "token_time")

    def __init__(
        self,
        arrival: float,
        prompt: int,
        token_time: float,
        first_delay: float = 0.0,
        first_delay_per_prompt_token: float = 0.0,
        from_first_token: bool = False,
        clamp: bool = True,
    ) -> None:
        self.token_time = token_time
        self.generated = 0
        """Tokens delivered."""
        self.due = arrival + (first_delay + first_delay_per_prompt_token * prompt) + token_time
        """Seconds; when the reader needs the next token."""
        if from_first_token:
            self.due = NEVER
        self.lateness = 0.0 if clamp else NO_LATENESS
        """Seconds; worst over the delivered tokens."""
        self._from_first_token = from_first_token

    def deliver(self, now: float, tokens: int = 1) -> None:
        """So many tokens reach the reader at once.

        Args:
            now: seconds.
            tokens: more than one with speculative decoding, say.
        """
        for _ in range(tokens):
            if self.generated == 0 and self._from_first_token:
                self.due = now
            self.lateness = max(self.lateness, now - self.due)
            self.generated += 1
            self.due += self.token_time

    @property
    def dry(self) -> float:
        """Seconds; from when on the reader waits longer than ever before, and benefit falls."""
        return self.due + self.lateness
