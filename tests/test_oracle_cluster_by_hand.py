"""The oracle on clusters small enough to be worked out on paper: every iteration takes a second."""

import oracle
import pytest

SECOND = (1.0, 0.0, 0.0, 0.0)
TOKEN = 1024.0  # bytes of KV


def engine(**limits) -> oracle.Engine:
    limits = {"max_num_batched_tokens": 8, "block_size": 4, "num_gpu_blocks": 11} | limits
    return oracle.Engine(latency=SECOND, **limits)


def machines(*roles: str, **limits) -> list[oracle.Machine]:
    """A token of KV takes a second through a port."""
    return [oracle.Machine(engine(**limits), role, TOKEN) for role in roles]


def cluster(**links) -> oracle.Cluster:
    return oracle.Cluster(**{"kv_bytes": TOKEN, "num_layers": 4, "latency": 0.0} | links)


def serve(rows, machines, **options) -> oracle.Simulation:
    requests = [oracle.Request(i, *row) for i, row in enumerate(rows)]
    options = {"cluster": cluster()} | options
    return oracle.Simulation(requests, machines=machines, **options).run()


def moves(run: oracle.Simulation) -> list[tuple]:
    """Kind, request, source, target, tokens, start, end."""
    return [tuple(vars(move).values()) for move in run.moves]


def at(times: dict[float, dict]):
    """A hook that answers once at each of these times, on instance 0."""
    left = dict(times)

    def steer(sim: oracle.Simulation, instance: oracle.Instance):
        return left.pop(sim.clock, None) if instance.index == 0 else None

    return steer


def test_a_handed_off_request_waits_for_its_kv_and_the_latency() -> None:
    run = serve([(0.0, 3, 3)], machines("prefill", "decode"), cluster=cluster(latency=0.5))
    # prefilled at 1, its three tokens are sent until 4 and there at 4.5
    assert run.requests[0].tokens == [1.0, 5.5, 6.5]
    assert moves(run) == [("handoff", 0, 0, 1, 3, 1.0, 4.5)]
    assert [(row.instance, row.start) for row in run.log] == [(0, 0.0), (1, 4.5), (1, 5.5)]
    assert (run.handoffs, run.transferred) == (1, 3 * TOKEN)


def test_the_prefill_instance_keeps_the_kv_until_the_transfer_ends() -> None:
    run = serve(
        [(0.0, 7, 2), (2.0, 8, 1)],  # two of the two blocks
        [oracle.Machine(engine(num_gpu_blocks=3), "prefill", TOKEN), *machines("decode")],
    )
    assert [(row.instance, row.start, row.free_blocks) for row in run.log] == [
        (0, 0.0, 0),
        (0, 8.0, 0),  # not at 2.0
        (1, 8.0, 8),
    ]


def test_transfers_share_a_port_and_the_second_is_faster_alone() -> None:
    run = serve([(0.0, 2, 2), (0.0, 6, 2)], machines("prefill", "decode"))
    # both at half a token per second until the short one is sent at 1 + 4; 4 tokens are left
    assert moves(run) == [("handoff", 0, 0, 1, 2, 1.0, 5.0), ("handoff", 1, 0, 1, 6, 1.0, 9.0)]
    assert [request.tokens for request in run.requests] == [[1.0, 6.0], [1.0, 10.0]]


def test_ports_of_the_source_limit_transfers_to_different_instances() -> None:
    run = serve(
        [(0.0, 2, 2), (0.0, 2, 2)],
        machines("prefill", "decode", "decode"),
        handoff=lambda _, request: request.index + 1,
    )
    assert [(move.target, move.end) for move in run.moves] == [(1, 5.0), (2, 5.0)]


def test_layer_by_layer_the_kv_of_earlier_chunks_is_there_already() -> None:
    links = cluster(layerwise=True)
    short = serve([(0.0, 3, 2)], machines("prefill", "decode"), cluster=links)
    assert short.moves[0].end == 3.0  # two of three tokens are left after a second
    long = serve([(0.0, 16, 2)], machines("prefill", "decode"), cluster=links)
    assert long.moves[0].end == 16.0  # 14 of 16 after two chunks; sent from 2
    wide = [oracle.Machine(engine(), role, 16 * TOKEN) for role in ("prefill", "decode")]
    run = serve([(0.0, 8, 2)], wide, cluster=links)
    assert run.moves[0].end == 1.125  # at least the last of four layers: 2 tokens


def test_a_request_whose_answer_is_its_own_instance_decodes_there() -> None:
    run = serve([(0.0, 2, 3)], machines("prefill", "decode"), handoff=lambda *_: 0)
    assert run.requests[0].tokens == [1.0, 2.0, 3.0]
    assert run.moves == []


def test_a_full_decode_instance_lets_the_next_wait_in_its_queue() -> None:
    run = serve(
        [(0.0, 2, 3), (0.0, 2, 2)],
        [*machines("prefill"), oracle.Machine(engine(num_gpu_blocks=2), "decode", TOKEN)],
    )
    # the first has the only block of instance 1 until it is finished at 5
    assert moves(run) == [("handoff", 0, 0, 1, 2, 1.0, 3.0), ("handoff", 1, 0, 1, 2, 5.0, 7.0)]
    assert run.requests[1].tokens == [1.0, 8.0]


def test_a_live_migration_copies_full_blocks_while_the_request_decodes() -> None:
    run = serve(
        [(0.0, 8, 9)],
        machines("mixed", "mixed"),
        route=lambda *_: 0,
        steer=at({1.0: {"migrate_to": {0: 1}}}),
        cluster=cluster(last_blocks=2, kv_bytes=TOKEN / 2, latency=0.25),
    )
    # stage 1: two blocks, from 1 to 5.25, when 12 tokens are there and a 13th is computed: a block
    # is left, so it stops at 6, with 13 tokens, 5 of them to copy until 8.75
    assert run.requests[0].tokens == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.75, 10.75, 11.75]
    assert moves(run) == [("migration", 0, 0, 1, 13, 6.0, 8.75)]  # from its last stage on


def test_a_live_migration_may_take_two_stages() -> None:
    run = serve(
        [(0.0, 8, 12)],
        machines("mixed", "mixed"),
        route=lambda *_: 0,
        steer=at({1.0: {"migrate_to": {0: 1}}}),
        cluster=cluster(last_blocks=1),
    )
    # 8 tokens until 9: 16 are there, 8 of them copied; the second stage lasts until 17, but at 12
    # the request is finished
    assert run.requests[0].tokens[-1] == 12.0
    assert moves(run) == [("abort", 0, 0, 1, 19, 12.0, 12.0)]
    assert run.instances[1].free == 10


def test_without_room_at_the_target_a_migration_is_aborted_at_once() -> None:
    run = serve(
        [(0.0, 8, 5), (0.0, 8, 5)],
        machines("mixed", "mixed", num_gpu_blocks=5),
        steer=at({1.0: {"migrate_to": {0: 1}}}),
        cluster=cluster(last_blocks=1),
    )
    # two free blocks are there, and then one more is needed: it stays
    assert run.requests[0].tokens == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (run.aborted, run.migrations) == (1, 0)


@pytest.mark.parametrize(
    ("mode", "tokens", "recomputed"),
    [
        ("stop_and_copy", [1.0, 4.0, 5.0], 0),  # two tokens until 3
        ("recompute", [1.0, 2.0, 3.0], 2),
    ],
)
def test_a_migration_may_stop_or_drop_the_kv(mode, tokens, recomputed) -> None:
    run = serve(
        [(0.0, 2, 3)],
        machines("mixed", "mixed"),
        steer=at({1.0: {"migrate_to": {0: 1}}}),
        cluster=cluster(mode=mode),
    )
    assert run.requests[0].tokens == tokens
    assert run.requests[0].recomputed == recomputed
    assert run.migrations == 1
    assert run.log[-1].instance == 1


def swapping(**limits) -> list[oracle.Machine]:
    """Three blocks, two on the host, and a second to copy four tokens."""
    limits = {
        "num_gpu_blocks": 4,
        "preemption_mode": "swap",
        "swap_bandwidth": 4 * TOKEN,
        "swap_space": 8 * TOKEN / 2**30,
    } | limits
    return machines("mixed", **limits)


def test_a_swapped_request_goes_on_where_it_was() -> None:
    run = serve([(0.0, 4, 5), (0.0, 4, 3)], swapping())
    assert [row.batch for row in run.log] == [
        [(0, 4, 0), (1, 4, 0)],
        [(0, 1, 4)],  # takes the last free block, so the other must go
        [(0, 1, 5)],
        [(0, 1, 6)],
        [(0, 1, 7)],
        [(1, 1, 4)],
        [(1, 1, 5)],
    ]
    # a second out before the second iteration, and a second in before the sixth
    assert [row.duration for row in run.log] == [1.0, 2.0, 1.0, 1.0, 1.0, 2.0, 1.0]
    assert moves(run) == [
        ("swap_out", 1, 0, oracle.HOST, 4, 1.0, 2.0),
        ("swap_in", 1, oracle.HOST, 0, 4, 6.0, 7.0),
    ]
    assert (run.requests[1].recomputed, run.requests[1].swaps, run.swapped) == (0, 1, 8 * TOKEN)


def test_beside_the_computation_a_swap_only_delays_who_needs_its_blocks() -> None:
    run = serve([(0.0, 4, 5), (0.0, 4, 3)], swapping(swap_overlap=True))
    # at 1 there is one free block, the one that is copied out: nobody waits for it
    assert run.requests[0].tokens == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert run.requests[1].tokens == [1.0, 7.0, 8.0]  # from 5 to 6 its KV comes in


def test_without_room_on_the_host_the_kv_is_dropped() -> None:
    run = serve([(0.0, 4, 5), (0.0, 4, 3)], swapping(swap_space=0.0))
    assert run.requests[1].recomputed == 4
    assert run.swapped == 0


def test_a_role_changes_when_the_work_is_done() -> None:
    def steer(sim: oracle.Simulation, instance: oracle.Instance) -> None:
        if sim.clock == 1.0 and instance.index == 0:
            sim.set_role(0, "decode", drain=True)

    run = serve([(0.0, 2, 3), (2.0, 2, 1)], machines("mixed", "mixed"), steer=steer)
    assert moves(run) == [("role", 2, 0, 0, 0, 3.0, 3.0)]
    assert [request.instance for request in run.requests] == [0, 1]
