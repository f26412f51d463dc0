"""Systems that prefill on some instances and decode on others: who takes what, and when.

Sources: DistServe (OSDI 2024), LLMServe/DistServe 82831f1, decoding_stage_scheduler.py; Splitwise
(ISCA 2024), Mutinifni/splitwise-sim 8f99e7d, scheduler.py; conditional disaggregation,
ai-dynamo/dynamo, lib/llm/src/disagg_router.rs.
"""

from sgym._jit import kernel
from sgym.core import batch, events, queue
from sgym.core.handoff import set_role
from sgym.core.layout import DECODE, MIXED, NONE, PREFILL, Transfer
from sgym.policies import loads
from sgym.policies.loads import ANYONE, ARRIVALS, HANDOFFS

HANDOFF = int(Transfer.HANDOFF)


# --- DistServe --------------------------------------------------------------------------------


@kernel
def open_gate(state, policy, i):
    """Let instance i pull finished prefills only while few that it pulled are not in yet.

    `waiting_share` of its blocks may be on their way. One that prefills takes whole prompts of
    `prefill_batch` tokens together, or a longer one alone.
    """
    engine, instance = state.engines[i], state.instances[i]
    most = int(engine["max_num_batched_tokens"])
    r = queue.first(instance)
    if instance["role"] == PREFILL:
        tokens = int(policy["prefill_batch"])
        if r != NONE:
            known = state.requests[r]["prompt"] + state.requests[r]["generated"]
            tokens = max(tokens, int(known))
        instance["token_budget"] = max(min(tokens, most), int(instance["num_running"]), 1)
        return
    limit = policy["waiting_share"] * engine["num_blocks"]
    seats = int(instance["num_running"]) + int(instance["num_loading"])
    blocks = blocks_on_their_way(state, i)
    while r != NONE and seats < engine["max_num_seqs"]:
        if state.requests[r]["other"] >= 0:
            if blocks >= limit:
                break
            blocks += loads.known_blocks(state.requests[r], engine["block_size"])
        seats += 1
        r = queue.following(state.links, r)
    instance["active_cap"] = max(seats, 1)


@kernel
def blocks_on_their_way(state, i):
    """KV blocks of instance i that are set aside for finished prefills being sent."""
    blocks = 0
    for k in range(state.cluster[0]["num_transfers"]):
        transfer = state.transfers[k]
        if transfer["kind"] == HANDOFF and transfer["target"] == i:
            blocks += int(state.requests[transfer["request"]]["blocks"])
    return blocks


# --- Splitwise --------------------------------------------------------------------------------


@kernel
def prompt_machine(state, policy, r):
    """The machine that prefills: of the prompt pool, else of the mixed one, else borrowed."""
    return_free_machines(state)
    for role in (PREFILL, MIXED):
        i = fewest_tokens(state, r, role)
        if i != NONE and not is_queue_long(state, policy, i, r):
            return i
    i = fewest_tokens(state, r, DECODE)
    if i != NONE:
        set_role(state, i, MIXED, 0)
        return i
    i = fewest_tokens(state, r, NONE)
    return max(i, 0)


@kernel
def fewest_tokens(state, r, role):
    """The machine of a pool (NONE: of all) with the fewest tokens pending, or NONE."""
    best, fewest = NONE, 0
    for i in range(state.instances.size):
        if role != NONE and state.instances[i]["role"] != role:
            continue
        if not loads.takes(state, i, r, ANYONE):
            continue
        tokens = loads.prefill_tokens(state, i)
        if state.instances[i]["role"] != PREFILL:
            tokens += int(state.instances[i]["num_running"])  # one each
        if best == NONE or tokens < fewest:
            best, fewest = i, tokens
    return best


@kernel
def is_queue_long(state, policy, i, r):
    """Whether something waits there already, and this prompt would make it too much."""
    if state.instances[i]["num_waiting"] == 0:
        return False
    prompt = state.requests[r]["prompt"]
    return loads.prefill_tokens(state, i) + prompt > policy["max_pending"]


@kernel
def token_machine(state, r, own):
    """The machine that decodes: of the token pool, else of the mixed one, else borrowed."""
    return_free_machines(state)
    for role in (DECODE, MIXED):
        i = least_memory(state, r, role)
        if i != NONE and has_memory(state, i, r):
            return i
    if state.instances[own]["role"] == MIXED:
        return own
    i = least_memory(state, r, PREFILL)
    if i == NONE:
        return own
    set_role(state, i, MIXED, 0)
    return i


@kernel
def least_memory(state, r, role):
    """The machine of a pool with the least memory committed, or NONE."""
    best, least = NONE, 0
    for i in range(state.instances.size):
        if state.instances[i]["role"] != role or not loads.takes(state, i, r, ANYONE):
            continue
        blocks = loads.committed_blocks(state, i)
        if best == NONE or blocks < least:
            best, least = i, blocks
    return best


@kernel
def has_memory(state, i, r):
    """Whether what is known of a request still fits beside what is committed."""
    blocks = loads.known_blocks(state.requests[r], state.engines[i]["block_size"])
    return loads.committed_blocks(state, i) + blocks < state.engines[i]["num_blocks"]


@kernel
def return_free_machines(state):
    """Machines of the mixed pool that have nothing to do go back to where they came from."""
    for i in range(state.instances.size):
        instance, home = state.instances[i], int(state.engines[i]["role"])
        if instance["role"] == MIXED and home != MIXED and events.is_empty(instance):
            set_role(state, i, home, 0)


# --- conditional disaggregation ---------------------------------------------------------------


@kernel
def local_or_remote(state, policy, r):
    """A short prompt is prefilled where it will decode, a long one on a prefill instance."""
    local = least_in_use(state, r)
    if local != NONE:
        left = state.requests[r]["prompt"] - loads.hit_tokens(state, local, r)
        if left <= policy["max_local_prefill"]:
            return local
    best, fewest = NONE, 0
    for i in range(state.instances.size):
        if state.instances[i]["role"] == PREFILL and loads.takes(state, i, r, ARRIVALS):
            tokens = loads.prefill_tokens(state, i)
            if best == NONE or tokens < fewest:
                best, fewest = i, tokens
    if best == NONE:
        best = local
    return max(best, 0)


@kernel
def least_in_use(state, r):
    """Of those that decode, the one with the smallest share of memory in use or spoken for."""
    best, least = NONE, 0.0
    for i in range(state.instances.size):
        if not loads.takes(state, i, r, HANDOFFS):
            continue
        missed = state.requests[r]["prompt"] - loads.hit_tokens(state, i, r)
        blocks = batch.blocks_for(missed, state.engines[i]["block_size"])
        share = (loads.committed_blocks(state, i) + blocks) / state.engines[i]["num_blocks"]
        if best == NONE or share < least:
            best, least = i, share
    return best
