"""The sections that the pages of all environments share; a page is the docstring of a class."""

from collections.abc import Sequence

from sgym.envs import features

SPEAKING = """\
When it is asked, `decision` says. `iteration`: before every batch. `event`: after an arrival, a
finish or a preemption, when fewer KV blocks are free than requests run, or when a reader will
run dry within 0.1 s. `admission`: where the engine's own limits would let a waiting request in.
`interval`: after that time. It is never asked where it has no choice: with fewer than two
requests on the instance, or with nothing waiting and no shortage of memory. Where it migrates,
one request that may move to another instance now is a choice."""

VERBS = """\
| num | verb | applies to | effect |
|---|---|---|---|
| 0 | neutral | any | - |
| 1 | preempt | running | preempt now (recompute, or swap if the engine does), and hold |
| 2 | promote | any | ahead of all others: admitted first, or preempted last |
| 3 | hold | waiting | not admitted before the next decision |
| 4 | reject | waiting | refuse it for good; only with `allow_reject`: no engine can do it |"""

BUDGET = """\
Level n of the token budget is max_num_batched_tokens / 2**n, n = 0 to 3; engines that do not
split prompts have level 0 alone."""

SCORES = """\
a score for each slot: order of admission for waiting requests, order of preemption (lowest
first) for running ones. Requests without a slot have score 0."""

KNOBS = """\
every combination of an ordering (fcfs, spf, edf, llf, slack-victim, as the built-in policies of
these names), a reservation (0, 0.2 or 0.5 of the output that the running requests are expected
to generate still is kept free) and a limit (open; closed = admit nobody beyond the present
number; gentle = a quarter of the token budget, small chunks). Action 0 is the stock engine."""

INDEX = """\
score = base + 4 w . features for every waiting and running request, with a slot or not; the base
is `base`, in units of 512 tokens (spf) or 1 s (others). The first F weights are those of waiting
requests, the next F those of running ones. The four numbers after them are reserve, token budget,
cap on running requests and chunk cap: 0 leaves them as the base has them."""

MASKS = """\
`info["action_mask"]` has the form that `action_space.sample(mask=...)` takes,
`env.action_masks()` the one of sb3-contrib, and `sgym.envs.MaskInObs` puts it into the
observation for RLlib and TorchRL."""

REPORTS = """\
With `cluster.staleness` above 0, instances report only that often, and what is seen of them is as
last reported, as it is for the built-in routers; never stale are roles, draining, cached and
in_flight, which whoever places requests knows. An instance that forms a batch sees itself as it is,
and the others as reported."""

SLOTS = """\
The first K/2 slots hold running requests, the tail of the running order (the next victim)
first; the others the head of the queue. Unused slots of one half are lent to the other from the
far end. The true output length is never visible, unless `length_hint` says so."""

EPISODE = """\
## Rewards

(B(now) - B(at the last decision)) / T, with B the summed benefit of all requests: tokens
delivered (times weight) - alpha * f(idle latency), arXiv 2410.14257. T is the episode's
duration, so the undiscounted return is the episode's smooth goodput in tokens/s. `slo.reward`
of the scenario may say `goodput`, `throughput` or `qoe` instead.

## Starting State

The first decision of a window of `episode.duration` seconds. With `episode.warm_start` the
scenario's own policies ran before, and left a backlog. The reward up to the first decision is
part of the first step's.

## Episode End

- Termination: nothing more will come and everything is served.
- Truncation: the window ends. Bootstrap the value here.

An episode in which no decision is due ends on its first step.

## Information

`time`: seconds since the start of the simulation. `dt`: seconds since the previous decision.
`action_mask`: see above. `invalid_actions`: parts of the last action that did not apply. On the
last step also, as floats: `smooth_goodput`, `slo_attainment`, `goodput_tok_s`,
`throughput_tok_s`, `ttft_p50`, `ttft_p99`, `tpot_p50`, `tpot_p99`, `num_preemptions`,
`num_migrations`; and `num_handoffs` if the agent decides between instances."""

RESET = """\
`reset(options={"workload_seed": n})` serves the workload that `sgym.simulate(scenario, seed=n)`
has. `snapshot()` and `restore()` copy the state exactly."""

SECTIONS = {
    "speaking": SPEAKING,
    "verbs": VERBS,
    "budget": BUDGET,
    "scores": SCORES,
    "knobs": KNOBS,
    "index": INDEX,
    "masks": MASKS,
    "reports": REPORTS,
    "slots": SLOTS,
    "episode": EPISODE,
    "reset": RESET,
}


def complete(page: str | None, when: Sequence[str]) -> str:
    """A page with the shared sections, and the tables of the features that `when` lets be seen.

    A place to fill is a line of its own that says `[[name]]`, at the indent of its section.
    """
    parts = SECTIONS | {table: features.markdown(table, when) for table in features.TABLES}
    lines: list[str] = []
    for line in (page or "").split("\n"):
        name = line.strip().removeprefix("[[").removesuffix("]]")
        if line.strip() != f"[[{name}]]":
            lines.append(line)
            continue
        indent = line[: line.index("[[")]
        lines += [(indent + part).rstrip() for part in parts[name].split("\n")]
    return "\n".join(lines)
