"""Writing what an episode starts with, into memory that has held anything."""

import math

from sgym._jit import clear, kernel, overwrite
from sgym.core.layout import NEVER, NONE


@kernel
def renew(state, blank) -> None:
    """Let everything but requests, their hashes and what is shared be as in `blank`."""
    overwrite(state.cluster, blank.cluster)
    overwrite(state.instances, blank.instances)
    overwrite(state.blocks, blank.blocks)
    overwrite(state.buckets, blank.buckets)
    clear(state.links)
    clear(state.running)
    clear(state.events)
    clear(state.dry)
    clear(state.transfers)
    clear(state.tables)
    clear(state.ahead)
    clear(state.tokens)
    clear(state.iterations)
    clear(state.batches)
    clear(state.moves)


@kernel
def fill(requests, arrivals, readers, max_model_len) -> None:
    """Write REQUEST (n,) from ARRIVAL (n,) and READER (classes,).

    Outputs end where the model's context does: `max_model_len` tokens, prompt and output together.
    """
    for r in range(arrivals.size):
        clear(requests[r : r + 1])
        request, arrival = requests[r], arrivals[r]
        write_workload(request, arrival, max_model_len)
        write_metric(request, readers[arrival["user_class"]])
        request["left"] = NONE
        request["right"] = NONE
        request["parent"] = NONE
        request["instance"] = NONE
        request["other"] = NONE
        request["transfer"] = NONE
        request["table"] = NONE
        request["other_table"] = NONE
        request["first_scheduled"] = math.nan
        request["first_token"] = math.nan
        request["last_token"] = math.nan
        request["finish"] = math.nan


@kernel
def write_workload(request, arrival, max_model_len) -> None:
    """Copy an ARRIVAL."""
    request["arrival"] = arrival["arrival"]
    request["prompt"] = arrival["prompt"]
    request["output"] = min(arrival["output"], max(max_model_len - arrival["prompt"], 1))
    request["predicted"] = arrival["predicted"]
    request["priority"] = arrival["priority"]
    request["tenant"] = arrival["tenant"]
    request["user_class"] = arrival["user_class"]
    request["first_hash"] = arrival["first_hash"]
    request["num_hashes"] = arrival["num_hashes"]


@kernel
def write_metric(request, reader) -> None:
    """Write what the metric says of a reader's class."""
    request["token_time"] = reader["token_time"]
    request["weight"] = reader["weight"]
    request["alpha"] = reader["alpha"]
    delay = reader["first_delay_per_prompt_token"] * request["prompt"]
    request["first_delay"] = reader["first_delay"] + delay
    request["due"] = request["arrival"] + request["first_delay"] + reader["token_time"]
    if reader["from_first_token"]:
        request["due"] = NEVER
    request["lateness"] = reader["lateness"]
