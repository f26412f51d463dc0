"""`sgym/Disaggregated-v0`: an agent steers a cluster that prefills here and decodes there."""

from collections.abc import Mapping, Sequence
from typing import Any

from sgym.config import Scenario
from sgym.envs.actions import AGING
from sgym.envs.base import ServingEnv
from sgym.envs.features import WHEN
from sgym.envs.options import Options, named
from sgym.envs.pages import complete
from sgym.errors import ScenarioError
from sgym.simulator import Source


class DisaggregatedEnv(ServingEnv):
    """An agent schedules prefill and decode instances, and says who decodes what.

    ## Description

    Some instances compute prompts (prefill), others output tokens (decode). A request that is
    prefilled is handed off: its KV goes over the network to the instance that decodes it, once that
    has room. The agent says which instance this is (`handoff`), and how every instance forms its
    batches (`schedule`), under one policy for all. It may also route arrivals (`route`) and move
    requests between instances (`migrate`). What is not among its `controls`, the scenario's own
    policies decide (`policy.name`, `cluster.router`, `cluster.handoff`).

    ```python
    import gymnasium as gym
    import sgym

    env = gym.make("sgym/Disaggregated-v0", scenario="tiny-disaggregated", action="knobs")
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        action = env.action_space.sample(mask=info["action_mask"])
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    print(info["smooth_goodput"])
    ```

    | | |
    |---|---|
    | Action Space | `slots`: MultiDiscrete, `knobs`, `route`: Discrete, others: Box in [-1, 1] |
    | Observation Space | Dict of flat float32 Boxes `requests`, `instances`, `cluster` |
    | import | `gymnasium.make("sgym:sgym/Disaggregated-v0")` |

    ## Action Space

    There are two kinds of decisions, which `cluster` tells apart. Where a request is placed
    (decides_route, decides_handoff), the action names an instance. Where an instance forms a batch
    (decides_schedule), it concerns that one, and stays in force there until its next decision; what
    joins in between has score 0. All actions have the I instances in them:

    | `action` | space | schedule | route, handoff |
    |---|---|---|---|
    | slots | MultiDiscrete [6] * K + [4] + [I] | verbs, budget, `destination` | `destination` |
    | scores | Box (K + I,) | the first K numbers | the highest of the last I |
    | knobs | Discrete(max(45, I)) | one of 45 | action i is instance i |
    | index | Box (2 F + 4 + I,) | the first 2 F + 4 numbers | the highest of the last I |
    | route | Discrete(I) | not asked: for `controls` without schedule | action i is instance i |

    An arrival may go to instances that prefill, a hand-off to those that decode or back to its own
    (it then decodes there), in both cases if they do not drain and could serve what is known of the
    request. Where one is left, nobody is asked. An instance that could never serve the request to
    its end refuses an arrival at once; a hand-off then decodes where it is, a migration is not
    begun.

    [[speaking]]

    `slots`: a verb for each of the K slots, a level of the token budget, and the destination.

    [[verbs]]
    | 5 | migrate | prefilled, or waiting | go on at the `destination`; only with controls=migrate |

    [[budget]]
    Instances to which requests may migrate now are those that take hand-offs (from a prefill
    instance: arrivals), have a seat, and do not yet receive as many requests as
    `cluster.migration.concurrent` lets. As many as that begin, in the order of the slots; the
    others stay. A destination that no verb uses means nothing.

    `scores`:
    [[scores]]

    `knobs`: `sgym.envs.actions.KNOBS`,
    [[knobs]]

    `index`: weights w and four numbers.
    [[index]]

    The mask of a factor that means nothing now has 0 alone. What is chosen against the mask is a
    no-op (`knobs`: what is in force stays; a placement: the scenario's rule decides) and counted in
    `info["invalid_actions"]`. Box spaces have no masks.
    [[masks]]

    ## Observation Space

    `requests`: K slots of F features, zeros in an empty one. At a placement slot 0 holds the
    request to be placed and the others are empty; its shares of KV blocks are those of the first
    instance (route) or of the one that has prefilled it (handoff). Else they hold requests of the
    instance that asks.
    [[slots]]

    [[requests]]

    `instances`: G features of each instance; at a hand-off the one that has prefilled the request
    `asks`.
    [[reports]]

    [[instances]]

    `cluster`: H features; what happened since the last decision and requests without a slot are
    those of the instance that asks, and 0 at a placement.

    [[cluster]]

    [[episode]]

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `scenario` | "tiny-disaggregated" | name, path or dict, with a pool of role prefill |
    | `overrides` | none | dotted names to values, such as {"workload.rate": 6.0} |
    | `controls` | ["schedule", "handoff"] | what it decides: schedule, route, handoff, migrate |
    | `action` | "slots" | slots, scores, knobs, index; route if it does not schedule |
    | `decision` | "event" | when instances ask: event, iteration, admission, interval |
    | `interval` | 0.1 | seconds, for decision="interval" |
    | `num_slots` | 64 | K |
    | `length_hint` | "none" | none, noisy, bucket, oracle: shows a predicted output length |
    | `base` | "spf" | ordering that `index` starts from |
    | `allow_reject` | False | lets `slots` reject; no engine can take over such a policy |
    | `expected_output` | 256.0 | tokens, for reservations |
    | `aging` | 20.0 | tokens per second that waiting counts for in the ordering spf |
    | `extra_features` | () | optional features to switch on |
    | `render_mode` | none | ansi or rgb_array |

    [[reset]]

    ## Version History

    * v0: first version.

    ## References

    * Wang, Li, Zhou et al., "Revisiting Service Level Objectives and System Level Metrics in LLM
      Serving", arXiv 2410.14257.
    * Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large
      Language Model Serving", OSDI 2024.
    * Sun et al., "Llumnix: Dynamic Scheduling for Large Language Model Serving", OSDI 2024.
    """

    def __init__(
        self,
        scenario: Source = "tiny-disaggregated",
        controls: Sequence[str] = ("schedule", "handoff"),
        action: str = "slots",
        decision: str = "event",
        interval: float = 0.1,
        num_slots: int = 64,
        length_hint: str = "none",
        overrides: Mapping[str, Any] | None = None,
        base: str = "spf",
        allow_reject: bool = False,
        expected_output: float = 256.0,
        aging: float = AGING,
        extra_features: Sequence[str] = (),
        render_mode: str | None = None,
    ) -> None:
        chosen = Options(
            controls=named(controls),
            action=action,
            decision=decision,
            interval=interval,
            num_slots=num_slots,
            length_hint=length_hint,
            base=base,
            allow_reject=bool(allow_reject),
            expected_output=expected_output,
            aging=aging,
            extra_features=tuple(extra_features),
        )
        super().__init__(scenario, overrides, chosen, True, render_mode)

    def _checked(self, scenario: Scenario) -> Scenario:
        if all(pool.role != "prefill" for pool in scenario.cluster.groups):
            raise ScenarioError(
                f"scenario {scenario.name!r} has no prefill instances: give cluster.pools one "
                "with role: prefill and one with role: decode, or use sgym/Colocated-v0"
            )
        return scenario


DisaggregatedEnv.__doc__ = complete(DisaggregatedEnv.__doc__, tuple(WHEN))
