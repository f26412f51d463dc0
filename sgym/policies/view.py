"""What a policy may know, as plain Python objects: no true output length among it."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from sgym.core import queue
from sgym.core.layout import NONE, Role, State


class RequestView:
    """One waiting or running request, read-only. Times are seconds, lengths tokens."""

    __slots__ = ("_now", "_record", "id")

    def __init__(self, index: int, record: np.void, now: float) -> None:
        self.id = index
        self._record = record
        self._now = now

    def __repr__(self) -> str:
        return f"<request {self.id}: prompt {self.prompt}, generated {self.generated}>"

    @property
    def arrival(self) -> float:
        """Seconds since the start of the window."""
        return float(self._record["arrival"])

    @property
    def waited(self) -> float:
        """Seconds since the arrival."""
        return self._now - self.arrival

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return int(self._record["prompt"])

    @property
    def generated(self) -> int:
        """Output tokens delivered so far."""
        return int(self._record["generated"])

    @property
    def computed(self) -> int:
        """Tokens whose KV is in memory."""
        return int(self._record["computed"])

    @property
    def known(self) -> int:
        """Tokens of prompt and output so far."""
        return self.prompt + self.generated

    @property
    def blocks(self) -> int:
        """KV blocks held."""
        return int(self._record["blocks"])

    @property
    def predicted(self) -> float:
        """What the scenario's length predictor says of the output, NaN without one."""
        return float(self._record["predicted"])

    @property
    def priority(self) -> int:
        """The engine's priority, lower first."""
        return int(self._record["priority"])

    @property
    def tenant(self) -> int:
        """Whose request it is."""
        return int(self._record["tenant"])

    @property
    def user_class(self) -> int:
        """Index into `scenario.slo.classes`."""
        return int(self._record["user_class"])

    @property
    def preemptions(self) -> int:
        """How often it was preempted."""
        return int(self._record["preemptions"])

    @property
    def due(self) -> float:
        """Seconds since the start of the window at which its reader needs the next token."""
        return float(self._record["due"])

    @property
    def slack(self) -> float:
        """Seconds until its reader has waited longer than ever before; then its benefit falls."""
        return float(self._record["due"] + self._record["lateness"]) - self._now

    @property
    def token_time(self) -> float:
        """V: seconds in which its reader reads a token."""
        return float(self._record["token_time"])

    @property
    def alpha(self) -> float:
        """Tokens of benefit lost per second of idle latency, times the weight of its class."""
        return float(self._record["alpha"])

    @property
    def weight(self) -> float:
        """Worth of one of its tokens."""
        return float(self._record["weight"])


class InstanceView:
    """One serving engine at the moment it forms a batch."""

    def __init__(self, state: State, index: int) -> None:
        self._state = state
        self.index = index

    def __repr__(self) -> str:
        return (
            f"<instance {self.index} at {self.now:.3f} s: {self.num_running} running, "
            f"{self.num_waiting} waiting, {self.free_blocks} of {self.num_blocks} blocks free>"
        )

    @property
    def now(self) -> float:
        """Seconds since the start of the window."""
        return float(self._state.cluster[0]["clock"])

    @property
    def free_blocks(self) -> int:
        """KV blocks not in use."""
        return int(self._state.instances[self.index]["free_blocks"])

    @property
    def num_blocks(self) -> int:
        """KV blocks in all."""
        return int(self._state.engines[self.index]["num_blocks"])

    @property
    def block_size(self) -> int:
        """Tokens per KV block."""
        return int(self._state.engines[self.index]["block_size"])

    @property
    def max_num_seqs(self) -> int:
        """Most running requests."""
        return int(self._state.engines[self.index]["max_num_seqs"])

    @property
    def max_num_batched_tokens(self) -> int:
        """Most tokens per iteration."""
        return int(self._state.engines[self.index]["max_num_batched_tokens"])

    @property
    def role(self) -> str:
        """What it is for: mixed, prefill or decode."""
        return Role(int(self._state.instances[self.index]["role"])).name.lower()

    @property
    def draining(self) -> bool:
        """Whether it finishes its work before it changes its role."""
        return int(self._state.instances[self.index]["next_role"]) != NONE

    @property
    def num_loading(self) -> int:
        """Requests whose KV is on its way here; each has a seat."""
        return int(self._state.instances[self.index]["num_loading"])

    @property
    def waiting_tokens(self) -> int:
        """Tokens to prefill, over the waiting requests."""
        return int(self._state.instances[self.index]["waiting_tokens"])

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return int(self._state.instances[self.index]["num_waiting"])

    @property
    def num_running(self) -> int:
        """Requests that run."""
        return int(self._state.instances[self.index]["num_running"])

    @cached_property
    def running(self) -> list[RequestView]:
        """In budget order; the last one is the next victim."""
        row = self._state.running[self.index, : self.num_running]
        return [self._request(int(index)) for index in row]

    @cached_property
    def waiting(self) -> list[RequestView]:
        """In admission order."""
        return [self._request(index) for index in waiting_order(self._state, self.index)]

    def _request(self, index: int) -> RequestView:
        return RequestView(index, self._state.requests[index], self.now)


class ClusterView:
    """All instances at the moment a request is to be routed or handed off."""

    def __init__(self, state: State) -> None:
        index, now = int(state.cluster[0]["request"]), float(state.cluster[0]["clock"])
        self.request = RequestView(index, state.requests[index], now)
        self.instances = [InstanceView(state, index) for index in range(len(state.instances))]


def waiting_order(state: State, instance: int) -> Iterator[int]:
    """Indexes of an instance's waiting requests, from the head of its queue."""
    index = int(queue.first(state.instances[instance]))
    while index != NONE:
        yield index
        index = int(queue.following(state.links, index))
