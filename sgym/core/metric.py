"""Smooth goodput while the simulation runs: B(s), kept current in O(log n) per event.

benefit_r(s) = weight * n_r - w * f(A_r(s)) with w = alpha * weight (times n_r if scaled), and
A_r = max(L_r, s - due_r) (arXiv 2410.14257, equations 9 to 11, accrual form). A request that is not
overdue beyond its worst lateness contributes a constant (`settled`); the others contribute through
the sums of w, w*c and w*c*c with c = due_r, from which f at any s follows. A heap of dry times
finds requests that turn from one kind to the other; a running request is put there only when its
iteration will end after that time.
"""

from sgym._jit import kernel
from sgym.core import heap
from sgym.core.layout import FINISHED, NEVER, RUNNING, Penalty, RewardKind

CAPPED, QUADRATIC = int(Penalty.CAPPED), int(Penalty.QUADRATIC)
GOODPUT, THROUGHPUT = int(RewardKind.GOODPUT), int(RewardKind.THROUGHPUT)
QOE = int(RewardKind.QOE)
NO_LATENESS = -NEVER  # seconds; before the first token where lateness may be negative


@kernel
def penalty(cluster, late):
    """F of an idle latency in seconds; 0 before the first token."""
    if late <= NO_LATENESS:
        return 0.0
    return penalty_by(cluster["penalty"], cluster["penalty_cap"], late)


@kernel
def penalty_by(form, cap, late):
    """F of an idle latency in seconds, by a Penalty and where it ends."""
    if form == QUADRATIC:
        return late * late
    if form == CAPPED:
        return min(late, cap)
    return late


@kernel
def slope(cluster, request):
    """w: tokens lost per unit of f."""
    if cluster["scale_by_tokens"]:
        return request["alpha"] * request["generated"]
    return request["alpha"]


@kernel
def dry_time(request):
    """When the reader of this request has waited as long as ever before: penalty grows."""
    return request["due"] + request["lateness"]


@kernel
def accrue(cluster, request, sign):
    """Add (sign 1) or take away (sign -1) a request from the sums over the dry ones."""
    w = sign * slope(cluster, request)
    c = request["due"]
    cluster["accruing"] += sign
    if cluster["accruing"] == 0:  # nothing left: no rounding error may stay
        cluster["dry_w"] = 0.0
        cluster["dry_wc"] = 0.0
        cluster["dry_wcc"] = 0.0
        return
    cluster["dry_w"] += w
    cluster["dry_wc"] += w * c
    cluster["dry_wcc"] += w * c * c


@kernel
def track(requests, cluster, dry, r):
    """Enter a request into the heap of dry times, unless it is there or overdue already."""
    request = requests[r]
    if request["due"] >= NEVER:  # nothing is due before the first token
        return
    if cluster["track"] and request["tracked"] == 0 and request["dry"] == 0:
        request["tracked"] = 1
        cluster["num_dry"] = heap.push(dry, cluster["num_dry"], dry_time(request), 0, r)


@kernel
def track_running(requests, cluster, dry, running, instance):
    """Track the running requests that will run dry before the iteration under way ends."""
    if not cluster["track"]:
        return
    end = instance["start"] + instance["duration"]
    if instance["next_dry"] >= end:
        return
    for k in range(instance["num_running"]):
        if dry_time(requests[running[k]]) < end:
            track(requests, cluster, dry, running[k])


@kernel
def deliver(cluster, request, now):
    """One token reaches the reader: lateness and benefit follow."""
    if request["generated"] == 0 and cluster["from_first_token"]:
        request["due"] = now
    late, before = now - request["due"], request["lateness"]
    request["late_sum"] += max(before, late, 0.0)
    cluster["earned"] += request["weight"]
    same = request["dry"] == 0 and not cluster["scale_by_tokens"]  # dry: then by a rounding
    if late <= before and same:  # the penalty stays as it is
        request["generated"] += 1
        request["due"] += request["token_time"]
        return
    if cluster["track"]:
        if request["dry"] == 1:
            accrue(cluster, request, -1)
        elif request["dry"] == 2:
            cluster["settled"] -= slope(cluster, request) * cluster["penalty_cap"]
        else:
            cluster["settled"] -= slope(cluster, request) * penalty(cluster, before)
        request["dry"] = 0
    request["generated"] += 1
    request["due"] += request["token_time"]
    request["lateness"] = max(before, late)
    if cluster["track"]:
        cluster["settled"] += slope(cluster, request) * penalty(cluster, request["lateness"])


@kernel
def finish(cluster, request):
    """Book what counts only for a finished request: equation 7's tokens, and Andes' QoE.

    QoE = 1 - S_delay / S_whole (arXiv 2404.16283): S_delay is the area between the due times and a
    reader whom every stall pushes back, S_whole the area under that reader's curve.
    """
    if request["lateness"] <= 0.0:
        cluster["kept"] += request["weight"] * request["generated"]
    whole = request["token_time"] * request["generated"] / 2.0 + max(request["lateness"], 0.0)
    cluster["qoe"] += 1.0 - request["late_sum"] / request["generated"] / whole


@kernel
def update_dry(requests, instances, cluster, dry, now):
    """Turn requests whose dry time has passed into accruing ones, and these into capped ones."""
    capped = cluster["penalty"] == CAPPED
    while cluster["num_dry"] > 0 and dry[0]["time"] < now:
        r = dry[0]["index"]
        request = requests[r]
        again = NEVER  # when to look at this request next
        if request["phase"] != FINISHED and request["dry"] != 2:
            if request["dry"] == 0 and dry_time(request) < now:
                if capped and request["lateness"] >= cluster["penalty_cap"]:
                    request["dry"] = 2
                else:
                    w = slope(cluster, request)
                    cluster["settled"] -= w * penalty(cluster, request["lateness"])
                    accrue(cluster, request, 1)
                    request["dry"] = 1
            if request["dry"] == 0:
                again = dry_time(request)
                instance = instances[request["instance"]]
                end = instance["start"] + instance["duration"]
                if request["phase"] == RUNNING and end <= again and not instance["starved"]:
                    again = NEVER  # `track_running` sees to it at the next iteration
            elif request["dry"] == 1 and capped:
                again = request["due"] + cluster["penalty_cap"]
                if again < now:
                    w = slope(cluster, request)
                    accrue(cluster, request, -1)
                    cluster["settled"] += w * cluster["penalty_cap"]
                    request["dry"] = 2
                    again = NEVER
                else:  # a token in between would move its dry time to here or later
                    again = min(again, now + request["token_time"])
        if again == NEVER:
            request["tracked"] = 0
            cluster["num_dry"] = heap.pop(dry, cluster["num_dry"])
        else:
            dry[0]["time"] = again
            heap.sink(dry, cluster["num_dry"])


@kernel
def value(requests, instances, cluster, dry, now):
    """The potential whose differences are the rewards times T; for smooth goodput, B(now)."""
    kind = cluster["reward_kind"]
    if kind == THROUGHPUT:
        return cluster["earned"]
    if kind == GOODPUT:
        return cluster["kept"]
    if kind == QOE:
        return cluster["qoe"]
    update_dry(requests, instances, cluster, dry, now)
    growing = cluster["dry_w"] * now - cluster["dry_wc"]
    if cluster["penalty"] == QUADRATIC:
        growing = now * growing - now * cluster["dry_wc"] + cluster["dry_wcc"]
    return cluster["earned"] - cluster["settled"] - growing
