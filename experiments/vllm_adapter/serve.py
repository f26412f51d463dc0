"""Drive the real vLLM 0.33.0 with sgym's scheduler class in simulated time.

Reads cases as JSON, one per line, and answers each with a line, as `vllm_fuzz/drive.py` does, on
which this builds; runs in the environment of setup.sh. The policy acts inside of the scheduler,
as it would in a server; nothing here steers.
"""

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["NUMBA_DISABLE_JIT"] = "1"  # a few plain calls per iteration; nothing is compiled
sys.path.insert(0, str(Path(__file__).parents[1] / "vllm_fuzz"))

import drive as fuzz
import numpy as np
from policies import Drawn, Neutral
from vllm.sampling_params import SamplingParams
from vllm.v1.request import Request

from sgym.core.latency import iteration_time, prefill_attention
from sgym.core.layout import CLUSTER, INSTANCE, LATENCY
from sgym.export.vllm import Settings, SgymScheduler, SgymSyncScheduler
from sgym.export.vllm.controls import Controls, EveryBatch

SLO = ("token_time", "first_delay", "alpha", "weight")


class Drive(fuzz.Drive):
    """One run of sgym's scheduler class over a case."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__(case)
        self.added: list[float] = []  # seconds of each schedule() that are not vLLM's own
        self.latency = None
        if "latency_record" in case:
            self.latency = record(case["latency_record"], LATENCY)[0]
            self.cluster = record(case["cluster_record"], CLUSTER)[0]
        self.scheduler.pilot.run_on(lambda: self.clock)

    def build(self) -> Any:
        """The scheduler class of sgym, with the case's policy in it."""
        return fuzz.build_scheduler(self.case["config"], classes_of(self.case))

    def request(self, number: int, row: dict[str, Any]) -> Request:
        """A request as a client sends it, with what its reader wants."""
        request = super().request(number, row)
        extra = {name: row[name] for name in SLO if name in row}
        request.sampling_params = SamplingParams(
            max_tokens=row["output"], ignore_eos=True, extra_args=extra or None
        )
        return request

    def schedule(self) -> Any:
        """What an engine does: nothing but the call.

        In sgym, a policy is `told` how long the batch under way takes; an engine only measures.
        """
        if self.case.get("told") and self.under_way:
            self.scheduler.pilot.duration = self.iterations[-1]["dt"]
        start = time.perf_counter()
        output = self.scheduler.schedule()
        self.added.append(time.perf_counter() - start - self.scheduler.inner)
        if self.scheduler.pilot.failed:
            sys.exit(f"the policy failed in case {self.case['seed']}; its message is above")
        self.made_room = self.scheduler.pilot.num_preempted > 0
        return output

    def duration(
        self, prefills: list[tuple[int, int]], decodes: list[int], num_sampled: int
    ) -> float:
        """Seconds of a batch, by sgym's latency model."""
        if self.latency is None:
            return super().duration(prefills, decodes, num_sampled)
        batch = np.zeros(1, INSTANCE)[0]
        batch["prefill_tokens"] = sum(tokens for tokens, _ in prefills)
        batch["decode_seqs"] = len(decodes)
        batch["decode_kv"] = sum(decodes)
        batch["kv_tokens"] = sum(map(sum, prefills)) + sum(decodes)
        batch["num_sampled"] = num_sampled
        attention = 0.0
        for tokens, before in prefills:
            attention += prefill_attention(self.latency, tokens, before)
        return float(iteration_time(self.latency, batch, attention, self.cluster))

    def run(self) -> dict[str, Any]:
        """Serve the case; says too how often the policy was asked."""
        answer = super().run()
        answer["decisions"] = self.scheduler.pilot.num_decisions
        answer["added"] = [1e6 * float(np.quantile(self.added, q)) for q in (0.5, 0.99)]
        return answer


def classes_of(case: dict[str, Any]) -> tuple[type, type]:
    """Sync and async class; a bundle is loaded as in a server, others stand in for one."""
    chosen = case["policy"]
    os.environ["SGYM_BUNDLE"] = chosen

    def form(self: Any, throttle_prefills: bool) -> Any:
        start = time.perf_counter()
        output = super(type(self), self)._form(throttle_prefills)
        self.inner = time.perf_counter() - start
        return output

    def controls(_: Any, __: Settings) -> Controls:
        return Controls(Drawn(case) if chosen == "drawn" else Neutral(), EveryBatch())

    own = {"_form": form} if chosen.startswith("bundle:") else {"_form": form, "controls": controls}
    sync, ahead = (type(kind.__name__, (kind,), own) for kind in (SgymSyncScheduler, SgymScheduler))
    return sync, ahead


def record(text: str, dtype: np.dtype) -> np.ndarray:
    """A record of sgym from its bytes."""
    return np.frombuffer(bytearray(base64.b64decode(text)), dtype)


def main() -> None:
    """Answer every case on standard input."""
    for line in sys.stdin:
        print(json.dumps(Drive(json.loads(line)).run()), flush=True)


if __name__ == "__main__":
    main()
