"""An engine's trigger and its readers' clocks are those of the simulation, bit for bit."""

import numpy as np
import pytest
from playing import toy

import sgym
from sgym.core import engine
from sgym.core.layout import DONE, FULL, ROUTE
from sgym.export import EngineLimits, EngineView, EventTrigger, ReaderClock, simulated_view
from sgym.export import trigger as plain
from sgym.export.simulated import simulated_limits
from sgym.export.view import NEVER, REQUEST_ROW
from sgym.policies import trigger as kernels
from sgym.simulator import Simulator

CROWDED = toy(workload__rate=11.0, episode__duration=6.0)


@pytest.mark.parametrize("kind", kernels.TRIGGERS)
def test_it_asks_when_the_environment_asks(kind):
    simulator = Simulator(CROWDED, seed=1)
    simulator.reset(1, True)
    state, decision = simulator.state, simulator.state.cluster[0]["decision"]
    theirs, own = kernels.fresh_triggers(kind, 0.25, 1, 0.0), EventTrigger(kind, 0.25)
    limits, asked, reasons = simulated_limits(state), 0, 0
    while decision != DONE:
        request = state.requests[state.cluster[0]["request"]]
        if decision == FULL:
            simulator.enlarge()
            state = simulator.state
        elif decision == ROUTE:
            kernels.note_arrival(theirs[0], request)
            own.note_arrival(float(request["due"]), float(request["lateness"]))
            engine.route(state, 0)
        else:
            view = simulated_view(state, limits)
            due = bool(kernels.is_due(state, theirs, 0))
            assert own.is_due(view) == due
            for name in ("reasons", "decided", "looked", "next_dry"):
                assert getattr(own, name) == theirs[0][name], name
            assert (view.reasons, view.decided) == (own.reasons, own.decided)
            asked, reasons = asked + due, reasons | own.reasons
            if due:
                kernels.note_decision(theirs[0], view.now)
                own.note_decision(view.now)
            engine.iterate(state)
            kernels.note_batch(state.instances[0], theirs[0])
            counts = [int(state.instances[0][name]) for name in ("num_running", "num_waiting")]
            own.note_batch(*counts)
        decision = engine.advance(state)
    assert asked > 15
    assert reasons == 15 or kind != "event"


def test_what_both_triggers_have_in_common_is_the_same():
    assert plain.TRIGGERS == kernels.TRIGGERS
    for name in ("ARRIVAL", "FINISH", "PRESSURE", "DRY", "DRY_LEAD", "LOOKED_AT"):
        assert getattr(plain, name) == getattr(kernels, name)
    with pytest.raises(ValueError, match=r"trigger must be one of event, .*, got 'never'"):
        EventTrigger("never")


def test_an_engine_full_of_requests_admits_none():
    rows = np.ones(3, REQUEST_ROW)
    view = EngineView(0.0, EngineLimits(2, 64, 100), rows, 2, 50)
    assert not plain.can_admit(view)
    view.num_running = 1
    assert plain.can_admit(view)
    view.free_blocks = 0
    assert not plain.can_admit(view)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"origin": "first_token"},
        {"clamp": False},
        {"classes": [{"token_time": 0.03, "alpha": 1.0, "first_delay": 0.07,
                      "first_delay_per_prompt_token": 0.0011}]},
    ],
)  # fmt: skip
def test_a_reader_is_late_as_in_the_simulation(changes):
    slo = {"classes": [{"token_time": 0.05, "alpha": 2.5}], **changes}
    result = sgym.simulate(toy(slo=slo, workload__rate=12.0), "vllm", seed=2, log=("tokens",))
    user = result.scenario.slo.classes[0]
    clocks = [
        ReaderClock(
            float(one["arrival"]),
            int(one["prompt"]),
            user.token_time,
            user.first_delay,
            user.first_delay_per_prompt_token,
            from_first_token=result.scenario.slo.origin == "first_token",
            clamp=result.scenario.slo.clamp,
        )
        for one in result.state.requests
    ]
    count = int(result.state.cluster[0]["num_tokens_logged"])
    for token in result.state.tokens[:count]:
        clocks[token["request"]].deliver(float(token["time"]))
    for clock, one in zip(clocks, result.state.requests, strict=True):
        assert (clock.due, clock.lateness) == (one["due"], one["lateness"])
        assert clock.generated == one["generated"]
        assert clock.dry == one["due"] + one["lateness"]
    assert max(clock.lateness for clock in clocks) > 0.1


def test_tokens_that_come_together_count_one_by_one():
    together, apart = (ReaderClock(1.0, 10, 0.5) for _ in range(2))
    together.deliver(2.25, 3)
    for _ in range(3):
        apart.deliver(2.25)
    assert (together.due, together.lateness) == (apart.due, apart.lateness) == (3.0, 0.75)
    assert ReaderClock(1.0, 10, 0.5, from_first_token=True).due == NEVER
