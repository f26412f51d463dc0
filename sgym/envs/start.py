"""The Desk with which an episode starts."""

import numpy as np

from sgym.core.latency import iteration_time, prefill_attention
from sgym.core.layout import INSTANCE, NONE, STEERED, State
from sgym.envs import actions, observe
from sgym.envs.desk import ACTIONS, IN_FORCE, PLACING, ROUTING, SETTINGS, Desk
from sgym.envs.features import ABREAST, Columns
from sgym.envs.options import Options
from sgym.policies import kinds
from sgym.policies.trigger import fresh_triggers, restart
from sgym.simulator import Simulator

LONGEST_CHUNK = 2048  # tokens; of the chunk that says how fast an instance prefills


def fresh_desk(
    simulator: Simulator,
    chosen: Options,
    layout: actions.Layout,
    columns: dict[str, Columns],
    times: np.ndarray,
) -> Desk:
    """What an environment keeps, before its first decision.

    Args:
        simulator: as `reset` left it.
        chosen: arguments of the environment.
        layout: of its actions.
        columns: table of features -> its columns.
        times: from `prefill_times`.
    """
    start, end = simulator.window
    count = len(simulator.state.instances)
    settings = np.zeros(1, SETTINGS)
    settings["action"] = ROUTING if layout.action == PLACING else ACTIONS.index(layout.action)
    settings["schedules"] = chosen.schedules
    settings["routes"] = "route" in chosen.controls
    settings["hands_off"] = "handoff" in chosen.controls
    settings["migrates"] = "migrate" in chosen.controls
    settings["num_verbs"] = len(layout.verbs)
    settings["num_destinations"] = layout.num_destinations
    settings["allow_reject"] = chosen.allow_reject
    settings["base"] = actions.ORDERINGS.index(chosen.base)
    settings["reservation"] = actions.reservation_of(chosen.base)
    settings["expected_output"] = chosen.expected_output
    settings["aging"] = chosen.aging
    settings["start"] = start
    settings["duration"] = end - start
    desk = Desk(
        settings=settings,
        policy=_policy(simulator, chosen.schedules),
        memory=simulator.memory,
        triggers=fresh_triggers(
            chosen.decision, float(chosen.interval), count, start, "migrate" in chosen.controls
        ),
        in_force=np.zeros(count, IN_FORCE),
        slots=np.zeros(layout.num_slots, np.int32),
        destinations=np.zeros(count, np.int32),
        prefill_times=times,
        request_columns=columns["requests"],
        instance_columns=columns["instances"],
        cluster_columns=columns["cluster"],
        raw=np.zeros(observe.NUM_RAW),
        rows=np.zeros((ABREAST + 1) * observe.NUM_RAW),
        steered=np.zeros(2 * layout.num_slots + 1, STEERED),
    )
    return restarted(desk, simulator)


def restarted(desk: Desk, simulator: Simulator) -> Desk:
    """The desk for another episode, for which most of its arrays are used again.

    Args:
        desk: of the last episode, which nobody needs any more.
        simulator: as `reset` left it.
    """
    start, _ = simulator.window
    desk.settings["before"] = simulator.start_potential
    desk.settings["last_time"] = start
    desk.in_force["ordering"] = NONE
    desk.in_force["preemptions"] = 0
    desk.slots[:] = NONE
    restart(desk.triggers, start)
    return desk if simulator.memory is desk.memory else desk.replaced(memory=simulator.memory)


def _policy(simulator: Simulator, schedules: bool) -> np.ndarray:
    """POLICY (1,) that decides the rest: where an agent schedules, it gives requests no scores."""
    record = simulator.policy
    if schedules:
        record["kind"] = kinds.NEUTRAL
        record["migration"] = 0
    return record


def prefill_times(state: State) -> np.ndarray:
    """Seconds per prompt token of each instance, in a full chunk, float64 (num_instances,)."""
    times = np.zeros(len(state.engines))
    batch, cluster = np.zeros(1, INSTANCE), np.zeros_like(state.cluster)
    latency = state.latency.copy()
    latency["noise"] = 0.0
    for place, engine in enumerate(state.engines):
        longest = int(engine["max_num_batched_tokens"]), int(engine["max_model_len"])
        tokens = min(LONGEST_CHUNK, *longest)
        batch["prefill_tokens"] = batch["kv_tokens"] = tokens
        batch["num_sampled"] = 1
        table = latency[int(engine["latency"])]
        attention = prefill_attention(table, tokens, 0)
        times[place] = iteration_time(table, batch[0], attention, cluster[0]) / tokens
    return times
