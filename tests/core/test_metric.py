import pytest

import sgym
from sgym.core import metric
from sgym.core.layout import RUNNING, WAITING


def test_a_token_ends_dryness_also_where_it_is_late_by_a_rounding_only():
    now, due, lateness = 0.38000000000000006, 0.09, 0.29000000000000004
    assert due + lateness < now  # the reader is dry
    assert now - due <= lateness  # and has never waited as long
    state = sgym.Simulator("tiny", seed=0).state
    request, cluster = state.requests[0], state.cluster[0]
    request["phase"], request["due"], request["lateness"] = WAITING, due, lateness
    request["tracked"] = cluster["num_dry"] = 0
    metric.track(state.requests, cluster, state.dry, 0)
    metric.update_dry(state.requests, state.instances, cluster, state.dry, now)
    assert request["dry"] == cluster["accruing"] == 1
    metric.deliver(cluster, request, now)
    assert request["dry"] == cluster["accruing"] == 0
    assert cluster["dry_wc"] == 0.0


@pytest.mark.parametrize("starved", [0, 1])
def test_a_running_reader_leaves_the_heap_unless_no_batch_could_be_formed(starved):
    state = sgym.Simulator("tiny", seed=0).state
    request, cluster = state.requests[0], state.cluster[0]
    request["tracked"] = cluster["num_dry"] = 0
    request["due"] = 1.0
    metric.track(state.requests, cluster, state.dry, 0)
    request["phase"], request["instance"], request["due"] = RUNNING, 0, 2.0  # since then, a token
    state.instances["starved"] = starved
    metric.update_dry(state.requests, state.instances, cluster, state.dry, 1.5)
    assert request["tracked"] == cluster["num_dry"] == starved
    metric.update_dry(state.requests, state.instances, cluster, state.dry, 2.5)
    assert request["dry"] == cluster["accruing"] == starved
