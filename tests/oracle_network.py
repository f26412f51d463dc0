"""The network of the slow simulator: ports that transfers share equally.

A transfer first sends its bytes. Then it leaves the two ports, and ends after the latency.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from oracle_parts import NEVER, Request


@dataclass(eq=False)
class Transfer:
    """KV of a request on its way, or a live migration between two stages."""

    request: Request
    kind: str  # handoff, stage (the request decodes on), last (it has stopped)
    source: int
    target: int
    start: float  # seconds; of a migration, when its last stage began
    tokens: int = 0  # of the KV that is there once what is under way has ended
    stages: int = 0  # that a live migration has begun
    size: float = 0.0  # bytes of what is under way
    remaining: float = 0.0  # bytes
    rate: float = 0.0  # bytes per second
    sending: bool = False
    sent: float = NEVER  # seconds; when all bytes will have been sent
    end: float = NEVER  # seconds; when it takes effect, once all bytes are sent


class Network:
    """All transfers in the order of their start."""

    def __init__(self, bandwidths: Sequence[float], latency: float) -> None:
        self.bandwidths = bandwidths  # bytes per second, of each instance, each way
        self.latency = latency  # seconds
        self.transfers: list[Transfer] = []
        self.since = 0.0  # seconds; up to when `remaining` is complete

    def of(self, request: Request) -> Transfer | None:
        """The transfer of a request."""
        return next((t for t in self.transfers if t.request is request), None)

    def send(self, transfer: Transfer, size: float, now: float) -> None:
        """Let a transfer, new or between two stages, send `size` bytes."""
        self.progress(now)
        if transfer not in self.transfers:
            self.transfers.append(transfer)
        transfer.size = transfer.remaining = size
        transfer.sending, transfer.end = True, NEVER
        self.share(now)

    def remove(self, transfer: Transfer, now: float) -> None:
        self.progress(now)
        self.transfers.remove(transfer)
        self.share(now)

    def leave_ports(self, now: float) -> bool:
        """Whether some transfer had sent everything, and so leaves the ports.

        Those that come to their end together do so, though rounding leaves a part of a byte.
        """
        if not any(t.sending and t.sent <= now for t in self.transfers):
            return False
        self.progress(now)
        for transfer in self.transfers:
            if transfer.sending and transfer.remaining <= 1.0:
                transfer.sending, transfer.end = False, now + self.latency
        self.share(now)
        return True

    def next_time(self) -> float:
        times = [t.sent if t.sending else t.end for t in self.transfers]
        return min(times, default=NEVER)

    def progress(self, now: float) -> None:
        """Count what has been sent at the rates so far."""
        for transfer in self.transfers:
            if transfer.sending:
                transfer.remaining -= transfer.rate * (now - self.since)
        self.since = now

    def share(self, now: float) -> None:
        """All rates anew: every port is shared equally by the transfers that use it."""
        sending = [t for t in self.transfers if t.sending]
        for transfer in sending:
            out = sum(t.source == transfer.source for t in sending)
            into = sum(t.target == transfer.target for t in sending)
            transfer.rate = min(
                self.bandwidths[transfer.source] / out, self.bandwidths[transfer.target] / into
            )
            transfer.sent = now + max(0.0, transfer.remaining) / transfer.rate
