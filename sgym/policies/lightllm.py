"""LightLLM's past-future admission (ASPLOS 2025): let in whose peak of memory will still fit.

How much the running requests will yet generate is sampled from the lengths of the last finished
ones, given what each has generated already. From the samples follows the largest number of tokens
held at any time to come; a request is let in if that stays below a share of the memory.
"""

from sgym._jit import kernel
from sgym.core import queue, random
from sgym.core.layout import NONE
from sgym.policies.memory import HISTORY, LISTS

SAMPLES = 200  # at least so many, over the lists and the running requests
HELD, TO_COME = 0, 1  # columns of a sample: tokens now, tokens it will still add


@kernel
def before_batch(state, policy, memory, i):
    """Let in from the head of the queue as many as the predicted peak allows."""
    instance = state.instances[i]
    if memory.policy[0]["num_outputs"] == 0:
        start_history(policy, memory)
    instance["running_scored"] = 1
    for k in range(instance["num_running"]):  # the latest arrival is paused first
        state.requests[state.running[i, k]]["running_score"] = -float(state.running[i, k])
    seats = instance["num_running"] + instance["num_loading"]
    if instance["num_waiting"] > 0:
        seats += num_admissible(state, policy, memory, i)
    instance["active_cap"] = max(1, min(seats, state.engines[i]["max_num_seqs"]))


@kernel
def start_history(policy, memory):
    """Half a history of one length, as LightLLM starts with."""
    for _ in range(HISTORY // 2):
        remember(memory, int(policy["expected_output"]))


@kernel
def remember(memory, length):
    """Write an output length into the history, in place of the oldest one."""
    count = memory.policy[0]["num_outputs"]
    size = min(count, HISTORY)
    place = count % HISTORY
    if count >= HISTORY:  # the oldest one leaves the ordered list
        k = 0
        while memory.ordered[k] != memory.history[place]:
            k += 1
        for later in range(k + 1, HISTORY):
            memory.ordered[later - 1] = memory.ordered[later]
        size -= 1
    memory.history[place] = length
    k = size
    while k > 0 and memory.ordered[k - 1] > length:
        memory.ordered[k] = memory.ordered[k - 1]
        k -= 1
    memory.ordered[k] = length
    memory.policy[0]["num_outputs"] = count + 1


@kernel
def num_admissible(state, policy, memory, i):
    """How many waiting requests can be let in, first come first served; one if nobody runs."""
    engine, instance = state.engines[i], state.instances[i]
    capacity = policy["pressure"] * engine["num_blocks"] * engine["block_size"]
    present = int(instance["num_running"])
    lists = 1 if present == 0 else min(LISTS, SAMPLES // present + 1)
    sample_running(state, memory, i, lists)
    admitted = 0
    r = queue.first(instance)
    while r != NONE and present + admitted < engine["max_num_seqs"]:
        request = state.requests[r]
        peak = 0
        for n in range(lists):
            add_newcomer(state, memory, n, present + admitted, request)
            peak = max(peak, peak_of(memory, n, present + admitted + 1))
        if peak >= capacity and present + admitted + instance["num_loading"] > 0:
            break
        admitted += 1
        r = queue.following(state.links, r)
    return admitted


@kernel
def sample_running(state, memory, i, lists):
    """Fill the samples with what each running request holds and may still generate."""
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        most = state.engines[i]["max_model_len"] - request["prompt"]
        for n in range(lists):
            output = sampled_output(state.cluster[0], memory, int(request["generated"]), most)
            held = request["prompt"] + request["generated"]
            insert(memory, n, k, held, max(0, output - request["generated"] - 1))


@kernel
def sampled_output(cluster, memory, generated, most):
    """An output length out of the history, given that it exceeds `generated`.

    Between `generated`, the longer lengths of the history and `most`, linearly interpolated.
    """
    size = min(memory.policy[0]["num_outputs"], HISTORY)
    start = 0
    while start < size and memory.ordered[start] <= generated:
        start += 1
    longer = size - start
    last = memory.ordered[size - 1] if longer > 0 else generated
    count = longer + (1 if last < most else 0)  # intervals
    if count == 0:
        return generated
    cluster["policy_counter"] += 1
    place = random.uniform(int(cluster["policy_counter"])) * count
    k = int(place)
    low = generated if k == 0 else memory.ordered[start + k - 1]
    high = memory.ordered[start + k] if k < longer else most
    return int(low + (high - low) * (place - k) + 0.5)


@kernel
def add_newcomer(state, memory, n, size, request):
    """Add a request that would be let in, with any length of the history."""
    cluster = state.cluster[0]
    cluster["policy_counter"] += 1
    count = min(memory.policy[0]["num_outputs"], HISTORY)
    choice = random.integer(int(cluster["policy_counter"])) % count
    output = max(int(memory.history[choice]), int(request["generated"]))
    held = request["prompt"] + request["generated"] + 1
    insert(memory, n, size, held, max(0, output - request["generated"] - 2))


@kernel
def insert(memory, n, size, held, to_come):
    """Insert into list n of `size` entries, ordered by what is to come, most first."""
    entries = memory.samples[n]
    k = size
    while k > 0 and entries[k - 1, TO_COME] < to_come:
        entries[k, HELD] = entries[k - 1, HELD]
        entries[k, TO_COME] = entries[k - 1, TO_COME]
        k -= 1
    entries[k, HELD] = held
    entries[k, TO_COME] = to_come


@kernel
def peak_of(memory, n, size):
    """Most tokens held at any time to come by the `size` requests of list n.

    When the k-th longest is about to end, the k longest are there and each has grown by what the
    k-th had to come: max over k of k * b_k + sum of a_1 .. a_k.
    """
    entries = memory.samples[n]
    held, peak = 0, 0
    for k in range(size):
        held += entries[k, HELD]
        peak = max(peak, held + (k + 1) * entries[k, TO_COME])
    return peak


@kernel
def after_batch(state, memory, i):
    """Remember the output lengths of the requests that finish in the iteration that begins.

    With async scheduling, tokens of the one under way are still to come, too.
    """
    for k in range(state.instances[i]["num_running"]):
        request = state.requests[state.running[i, k]]
        if request["scheduled"] == 0 or request["prefilling"]:
            continue
        if request["generated"] + max(1, request["placeholders"]) >= request["output"]:
            remember(memory, int(request["output"]))
