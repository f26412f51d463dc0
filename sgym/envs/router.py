"""`sgym/Router-v0`: an agent says which instance takes each arrival."""

from collections.abc import Mapping, Sequence
from typing import Any

from sgym.config import Scenario
from sgym.envs.base import ServingEnv
from sgym.envs.desk import PLACING
from sgym.envs.options import Options, named
from sgym.envs.pages import complete
from sgym.errors import ScenarioError
from sgym.simulator import Source


class RouterEnv(ServingEnv):
    """An agent routes each request to one of several LLM serving engines.

    ## Description

    Requests arrive at a router in front of several serving engines, alike or not. For each of them
    the agent says which instance takes it, and sees the request and how busy every instance is. The
    scenario's own policy (`policy.name`) forms the batches. Where prefill and decode have instances
    of their own, the scenario's rule (`cluster.handoff`) says who decodes, unless `controls` has
    "handoff" too.

    ```python
    import gymnasium as gym
    import sgym

    env = gym.make("sgym/Router-v0", scenario="tiny-router")
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
    | Action Space | Discrete(num_instances) |
    | Observation Space | Dict of flat float32 Boxes `requests`, `instances`, `cluster` |
    | import | `gymnasium.make("sgym:sgym/Router-v0")` |

    ## Action Space

    | num | action |
    |---|---|
    | i | instance i takes the request |

    The mask has the instances that take arrivals (those that prefill, and do not drain) and could
    serve the prompt; an engine refuses at once what it could never serve to its end, which the
    agent cannot know. One decision per arrival: only where a single instance is left, nobody is
    asked. Where the mask has 0, the
    scenario's router (`cluster.router`) decides instead, and the action is counted in
    `info["invalid_actions"]`.
    [[masks]]

    ## Observation Space

    `requests`: the request to be placed, F features in slot 0. (`num_slots` is 1; further slots
    would stay empty.) Its shares of KV blocks are those of the first instance; at a hand-off, of
    the one that has prefilled it. The true output length is never visible, unless `length_hint`
    says so. (Without a hint the scenario's policy keeps the scenario's predictor to itself; with
    one it has the same hint.)

    [[requests]]

    `instances`: G features of each instance.
    [[reports]]

    [[instances]]

    `cluster`: H features.

    [[cluster]]

    [[episode]]

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `scenario` | "tiny-router" | name, path or dict of a scenario of at least two instances |
    | `overrides` | none | dotted names to values, such as {"workload.rate": 6.0} |
    | `num_slots` | 1 | K |
    | `length_hint` | "none" | none, noisy, bucket, oracle: shows a predicted output length |
    | `extra_features` | () | optional features to switch on |
    | `render_mode` | none | ansi or rgb_array |
    | `controls` | ["route"] | route, handoff or both |

    [[reset]]

    ## Version History

    * v0: first version.

    ## References

    * Wang, Li, Zhou et al., "Revisiting Service Level Objectives and System Level Metrics in LLM
      Serving", arXiv 2410.14257.
    """

    def __init__(
        self,
        scenario: Source = "tiny-router",
        num_slots: int = 1,
        length_hint: str = "none",
        overrides: Mapping[str, Any] | None = None,
        extra_features: Sequence[str] = (),
        render_mode: str | None = None,
        controls: Sequence[str] = ("route",),
    ) -> None:
        if "schedule" in named(controls):
            raise ScenarioError(
                "controls has 'schedule', but sgym/Router-v0 only places requests: "
                "use sgym/Disaggregated-v0 or sgym/Colocated-v0"
            )
        chosen = Options(
            controls=named(controls),
            action=PLACING,
            num_slots=num_slots,
            length_hint=length_hint,
            extra_features=tuple(extra_features),
        )
        super().__init__(scenario, overrides, chosen, True, render_mode)

    def _checked(self, scenario: Scenario) -> Scenario:
        if scenario.cluster.num_instances < 2:
            raise ScenarioError(
                f"scenario {scenario.name!r} has one instance, so there is nothing to route: "
                "set cluster.instances to at least 2, or give cluster.pools"
            )
        return scenario


RouterEnv.__doc__ = complete(RouterEnv.__doc__, ("always", "cluster", "hint", "extra"))
