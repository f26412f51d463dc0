"""Arrow (arXiv 2505.11916): instances change their role as fast as a request is routed.

Roles are labels: what an instance is doing it finishes under the new role. After Algorithms 1 to 3
as in athrael-soju/Narwhal 8dea4fc, src/narwhal/scheduler.py.
"""

from sgym._jit import kernel
from sgym.core.handoff import set_role
from sgym.core.layout import DECODE, NONE, PREFILL
from sgym.policies import durations, loads
from sgym.policies.loads import ANYONE, HANDOFFS


@kernel
def prefill_instance(state, policy, memory, r):
    """Algorithm 1 for an arrival: the cheapest in time, else a borrowed one, else the cheapest."""
    best, timely = NONE, False
    least_decode, least_time, own = 0, 0.0, 0.0
    asked_role = PREFILL if count_role(state, PREFILL) > 0 else NONE
    for i in range(state.instances.size):
        wrong_role = asked_role != NONE and state.instances[i]["role"] != asked_role
        if wrong_role or not loads.takes(state, i, r, ANYONE):
            continue
        alone = alone_time(state, i, r)
        decoding, time = decode_tokens(state, i), durations.queue_time(state, memory, i) + alone
        in_time = bool(time <= policy["ttft_target"])
        if timely and not in_time:
            continue
        cheaper = decoding < least_decode or (decoding == least_decode and time < least_time)
        if best == NONE or cheaper or (in_time and not timely):
            best, timely = i, in_time
            least_decode, least_time, own = decoding, time, alone
    if not timely and decode_load(state, policy) < policy["shrink"]:
        flipped = flip(state, policy, memory, int(DECODE), r)
        if flipped != NONE:
            best, own = flipped, alone_time(state, flipped, r)
    memory.requests[r]["prefill_time"] = own
    return max(best, 0)


@kernel
def decode_instance(state, policy, memory, question):
    """Algorithm 1 for a finished prefill; `question`: the request, and where it is."""
    r, own = question
    if state.instances[own]["role"] != PREFILL:
        return own  # it changed its role meanwhile: no KV needs to move
    best, timely = own, False
    fewest, smallest, first = 0, 0.0, True
    for j in range(state.instances.size):
        if not loads.takes(state, j, r, HANDOFFS):
            continue
        prefilling, beyond = loads.prefill_tokens(state, j), excess(state, policy, j, r)
        in_time = bool(beyond <= 0.0)
        if timely and not in_time:
            continue
        cheaper = prefilling < fewest or (prefilling == fewest and beyond < smallest)
        if first or cheaper or (in_time and not timely):
            best, timely, first = j, in_time, False
            fewest, smallest = prefilling, beyond
    if not timely:
        flipped = flip(state, policy, memory, int(PREFILL), r)
        if flipped != NONE:
            return flipped
    return best


@kernel
def alone_time(state, i, r):
    """Seconds in which instance i, doing nothing else, prefills request r."""
    prompt = int(state.requests[r]["prompt"])
    return durations.prefill_time(state, i, prompt, loads.hit_tokens(state, i, r))


@kernel
def decode_tokens(state, i):
    """Tokens of context of the requests that decode on instance i, or are about to."""
    tokens = 0
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["prefilling"] == 0:
            tokens += int(request["prompt"]) + int(request["generated"])
    return tokens


@kernel
def excess(state, policy, j, r):
    """Tokens of context of instance j, with request r, beyond those that meet the target."""
    known = int(state.requests[r]["prompt"]) + int(state.requests[r]["generated"])
    seqs = loads.in_flight(state, j) + 1.0
    most = durations.most_context(state, j, seqs, policy["tpot_target"])
    return float(durations.context(state, j) + known) - most


@kernel
def count_role(state, role):
    """Instances that have a role."""
    count = 0
    for i in range(state.instances.size):
        count += 1 if state.instances[i]["role"] == role else 0
    return count


@kernel
def flip(state, policy, memory, role, r):
    """Algorithm 3: the cheapest instance of a role takes the other one; NONE if none may.

    It must be able to serve request r (NONE: any). The last instance of its role keeps it, and for
    `cooldown` seconds after a prefill instance was taken, no other is.
    """
    now = state.cluster[0]["clock"]
    if role == PREFILL and now - memory.policy[0]["flipped"] < policy["cooldown"]:
        return NONE
    best, least, count = NONE, 0.0, 0
    for i in range(state.instances.size):
        if (state.instances[i]["role"] == PREFILL) != (role == PREFILL):
            continue
        count += 1
        if r != NONE and not loads.takes(state, i, r, ANYONE):
            continue
        cost = flip_cost(state, memory, role, i)
        if best == NONE or cost < least:
            best, least = i, cost
    if best == NONE or count < 2:
        return NONE
    set_role(state, best, DECODE if role == PREFILL else PREFILL, 0)
    if role == PREFILL:
        memory.policy[0]["flipped"] = now
    return best


@kernel
def flip_cost(state, memory, role, i):
    """What an instance has left to do in its role; less if it does the other's work already."""
    if role == PREFILL:
        left, pure = durations.queue_time(state, memory, i), decode_tokens(state, i) == 0
    else:
        left, pure = float(decode_tokens(state, i)), loads.prefill_tokens(state, i) == 0
    return left + 1e12 if pure else left


@kernel
def watch(state, policy, memory):
    """Algorithm 2: after `sustained` intervals of too much decoding, a prefill instance changes."""
    memo, now = memory.policy[0], state.cluster[0]["clock"]
    if now < memo["next_check"]:
        return
    memo["next_check"] = now + policy["interval"]
    decoding, prefilling = decode_load(state, policy), prefill_load(state, policy, memory)
    idle = prefilling <= policy["shrink"] <= decoding
    memo["overloaded"] = memo["overloaded"] + 1 if decoding >= policy["expand"] or idle else 0
    if memo["overloaded"] >= policy["sustained"]:
        if flip(state, policy, memory, int(PREFILL), int(NONE)) != NONE:
            memo["overloaded"] = 0


@kernel
def decode_load(state, policy):
    """Mean over instances that are not for prefill: time between tokens over its target.

    That time is how long the latest iteration takes; 0 where nothing decodes.
    """
    total, count = 0.0, 0
    for i in range(state.instances.size):
        instance = state.instances[i]
        if instance["role"] == PREFILL:
            continue
        count += 1
        if decode_tokens(state, i) > 0:
            total += instance["duration"]
    return total / max(count, 1) / policy["tpot_target"]


@kernel
def prefill_load(state, policy, memory):
    """Mean over instances that prefill: seconds until all is prefilled over the target."""
    total, count = 0.0, 0
    for i in range(state.instances.size):
        if state.instances[i]["role"] == PREFILL or loads.prefill_tokens(state, i) > 0:
            total += durations.queue_time(state, memory, i)
            count += 1
    return total / max(count, 1) / policy["ttft_target"]
