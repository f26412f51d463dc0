"""What all actions on an instance share: its limits, and the entries of a Steering."""

from sgym._jit import kernel
from sgym.core import steer
from sgym.core.layout import NONE, Former

SARATHI, ORCA = int(Former.SARATHI), int(Former.ORCA)


@kernel
def chunks_prompts(engine):
    """Whether prompts are split, so that a smaller token budget delays but never blocks one."""
    if engine["former"] == SARATHI:
        return True
    return engine["former"] != ORCA and engine["chunked_prefill"] == 1


@kernel
def open_limits(instance, engine):
    """The knobs of a Steering that changes nothing."""
    instance["token_budget"] = engine["max_num_batched_tokens"]
    instance["active_cap"] = engine["max_num_seqs"]
    instance["chunk_cap"] = 0
    instance["reserve"] = 0
    instance["hold_prefill"] = 0


@kernel
def apply(state, desk, i, count):
    """Hand the first `count` entries of `desk.steered` to core."""
    steer.steer(state, i, desk.steered[:count])


@kernel
def name(entry, r):
    """Begin an entry of a Steering: request `r`, neutral."""
    entry["request"] = r
    entry["preempt"] = 0
    entry["reject"] = 0
    entry["migrate_to"] = NONE
    entry["waiting_score"] = 0.0
    entry["running_score"] = 0.0
