"""Generated requests whose prompts share beginnings: system prompts and conversations.

The prompt of a turn begins with the whole prompt of the turn before; then come the answer and the
new message. The answer counts as new to the cache, as only prompts have hashes. A turn that would
not fit (`max_prompt`, or the engine's `max_model_len` with its output) starts over with the system
prompt and its message.

A conversation is one sequence of tokens, of which each turn's prompt is a beginning: so its turns
point to the same hashes, and requests that share a system prompt only point to those of that.
Blocks have the engine's size, which makes the sharing exact.
"""

from dataclasses import dataclass

import numpy as np

from sgym.config import Conversations, Prefixes, Scenario, SystemPrompts, Workload
from sgym.core.layout import ARRIVAL
from sgym.errors import ScenarioError
from sgym.workload.arrivals import MAX_ARRIVALS, arrival_times
from sgym.workload.classes import classes_by_share, set_classes
from sgym.workload.lengths import lognormal, pick_by_share, sample_lengths
from sgym.workload.prefixes import Requests, places
from sgym.workload.streams import Purpose, stream

HISTORY = 7.0
"""Mean lengths of a conversation by which conversations begin before time 0.

At time 0, e**-7 = 0.1 % of the turns due are missing.
"""
MAX_HASHES = 200_000_000  # of an episode: 1.6 GB


@dataclass(frozen=True, slots=True, eq=False)
class _Turns:
    """All turns, one conversation after the other."""

    time: np.ndarray  # float64 (n,), seconds
    owner: np.ndarray  # int64 (n,), conversation
    place: np.ndarray  # int64 (n,), 0 for the first turn


def converse(scenario: Scenario, prefixes: Prefixes, duration: float, seed: int) -> Requests:
    """The requests of `workload.prefixes`.

    Args:
        scenario: its `workload`, `slo.classes` and `engine` are read.
        prefixes: what prompts share.
        duration: seconds.
        seed: of all random streams.
    """
    workload, classes = scenario.workload, scenario.slo.classes
    turns, chosen = _turns(workload, prefixes.conversations, duration, seed)
    count = int(turns.owner[-1]) + 1 if len(turns.owner) else 0  # conversations
    mixture = stream(seed, Purpose.COMPONENTS).random(count)[turns.owner]
    normals = stream(seed, Purpose.LENGTHS).standard_normal((len(turns.owner), 2))
    message, output, component = sample_lengths(workload.lengths, normals, mixture)
    if workload.max_output is not None:
        output = np.minimum(output, workload.max_output)

    limit = workload.max_prompt or np.iinfo(np.int32).max
    system, tokens = _system_prompts(prefixes.system, count, seed)
    tokens = np.minimum(tokens, limit - 1)
    opening = np.minimum(tokens[system][turns.owner] + message, limit)
    room = min(limit, scenario.engine.max_model_len)
    prompt, opens = _prompts(turns, opening, message, output, limit, room)

    requests = np.zeros(len(chosen), ARRIVAL)
    requests["arrival"] = turns.time[chosen]
    requests["prompt"], requests["output"] = prompt[chosen], output[chosen]
    user_class = classes_by_share(classes, count, seed)[turns.owner]
    names = [user.name for user in classes]
    for index, part in enumerate(workload.lengths):
        if part.user_class is not None:
            user_class[component == index] = names.index(part.user_class)
    set_classes(requests, classes, user_class[chosen])
    order = np.argsort(chosen)  # conversation after conversation
    inside = chosen[order]
    hashes = _share(
        requests,
        order,
        np.cumsum(opens)[inside],
        system[turns.owner[inside]],
        tokens,
        scenario.engine.block_size,
    )
    return Requests(requests, hashes, scenario.engine.block_size)


def _turns(
    workload: Workload, conversations: Conversations | None, duration: float, seed: int
) -> tuple[_Turns, np.ndarray]:
    """All turns, and which of them make the episode, in order of arrival."""
    rate, limit = workload.rate or 0.0, workload.num_requests
    if conversations is None:
        time = arrival_times(workload.arrivals, rate, duration, seed, limit)
        every = np.arange(len(time))
        return _Turns(time, every, np.zeros_like(every)), every
    before = HISTORY * conversations.turns * conversations.think_time
    starts = rate / conversations.turns  # conversations per second
    most = None if limit is None else limit + int(starts * before)
    while True:
        begin = starts * (before + duration)
        expected = conversations.turns * (begin if most is None else min(begin, most))
        if expected > MAX_ARRIVALS:
            raise ScenarioError(
                f"workload.rate {rate:g} over {duration:g} s, and {before:g} s before in which "
                f"conversations under way began, gives {expected:.3g} requests, must be at most "
                f"{MAX_ARRIVALS}: lower the rate, episode.duration, or turns or think_time of "
                "workload.prefixes.conversations"
            )
        begun = arrival_times(workload.arrivals, starts, duration, seed, most, before)
        turns = _of_conversations(begun, conversations, seed)
        inside = np.flatnonzero((turns.time >= 0.0) & (turns.time < duration))
        order = inside[np.argsort(turns.time[inside], kind="stable")]
        complete = most is None or len(begun) < most
        if complete or np.count_nonzero(turns.time[order] <= begun[-1]) >= (limit or 0):
            return turns, order[:limit]
        most = 2 * (most or 0)


def _of_conversations(begun: np.ndarray, conversations: Conversations, seed: int) -> _Turns:
    lengths = stream(seed, Purpose.TURNS).geometric(1.0 / conversations.turns, len(begun))
    place = places(lengths)
    owner = np.repeat(np.arange(len(begun)), lengths)
    gaps = stream(seed, Purpose.THINKING).standard_exponential(len(owner))
    gaps[place == 0] = 0.0
    passed = np.cumsum(gaps * conversations.think_time)
    return _Turns(begun[owner] + passed - passed[place == 0][owner], owner, place)


def _system_prompts(
    system: SystemPrompts | None, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The system prompt of each conversation (0 = none), and the tokens of each; int64."""
    if system is None:
        return np.zeros(count, np.int64), np.zeros(1, np.int64)
    popularity = np.arange(1.0, system.count + 1.0) ** -system.zipf
    shares = [1.0 - system.share, *(system.share * popularity / popularity.sum())]
    normals = stream(seed, Purpose.SYSTEM_LENGTHS).standard_normal(system.count)
    tokens = lognormal(system.tokens, system.tokens_sigma, normals).astype(np.int64)
    uniforms = stream(seed, Purpose.SYSTEM_PROMPTS).random(count)
    return pick_by_share(shares, uniforms), np.concatenate(([0], tokens))


def _prompts(
    turns: _Turns,
    opening: np.ndarray,
    message: np.ndarray,
    output: np.ndarray,
    limit: int,
    room: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each turn's prompt, int64 (n,), and which turns do not go on from the one before.

    Args:
        turns: n turns.
        opening: tokens of the prompt of a turn that starts over.
        message: tokens that a turn adds.
        output: tokens.
        limit: most tokens of a prompt.
        room: most tokens of prompt and output.
    """
    prompt, opens = opening.copy(), turns.place == 0
    going_on = np.flatnonzero(~opens)
    going_on = going_on[np.argsort(turns.place[going_on], kind="stable")]
    sizes = np.bincount(turns.place[going_on])[1:]
    for turn in np.split(going_on, np.cumsum(sizes)[:-1]) if len(sizes) else []:
        longer = prompt[turn - 1] + output[turn - 1] + message[turn]
        fits = (longer <= limit) & (longer + output[turn] <= room)
        prompt[turn] = np.where(fits, longer, opening[turn])
        opens[turn] = ~fits
    return prompt, opens


def _share(
    requests: np.ndarray,
    order: np.ndarray,
    context: np.ndarray,
    system: np.ndarray,
    tokens: np.ndarray,
    block: int,
) -> np.ndarray:
    """Write first_hash and num_hashes into ARRIVAL (n,); returns the hashes.

    Args:
        requests: ARRIVAL (n,).
        order: the requests, conversation after conversation (n,).
        context: a number (n,) for each of these, equal where one prompt begins with the other.
        system: the system prompt (n,) of each of these.
        tokens: of each system prompt.
        block: tokens per hash.
    """
    prompt = requests["prompt"][order].astype(np.int64)
    used, which = np.unique(system, return_inverse=True)
    of_system = tokens[used] // block  # hashes of each system prompt that occurs
    system_first = np.cumsum(of_system) - of_system

    last = np.flatnonzero(np.append(np.diff(context) != 0, True)) if len(context) else order[:0]
    first = np.append(0, last[:-1] + 1)[: len(last)]
    several = last > first
    last, first = last[several], first[several]  # of contexts with several requests
    reach = prompt[last - 1] // block  # what the last two requests share; earlier ones have less
    run = np.cumsum(reach) - reach + of_system.sum()
    total = int(of_system.sum() + reach.sum())
    if total > MAX_HASHES:
        raise ScenarioError(
            f"workload.prefixes gives {total:.3g} shared KV blocks, must be at most {MAX_HASHES}: "
            "shorten the episode, the conversations or the system prompts"
        )
    inherited = of_system[which[first]]
    new = reach - inherited
    shift = np.cumsum(new) - new - inherited - (np.cumsum(reach) - reach)
    hashes = np.arange(total)
    hashes[of_system.sum() :] += np.repeat(shift, reach)
    hashes[np.repeat(run, inherited) + places(inherited)] = np.repeat(
        system_first[which[first]], inherited
    ) + places(inherited)
    starts, counts = system_first[which], of_system[which]
    members = np.repeat(np.arange(len(first)), last - first + 1)
    rows = np.repeat(first, last - first + 1) + places(last - first + 1)
    starts[rows] = run[members]
    counts[rows] = np.minimum(prompt[rows] // block, reach[members])
    requests["first_hash"][order], requests["num_hashes"][order] = starts, counts
    return hashes
