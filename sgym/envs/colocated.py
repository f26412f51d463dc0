"""`sgym/Colocated-v0`: an agent steers serving engines that prefill and decode on the same GPUs."""

from collections.abc import Mapping, Sequence
from typing import Any

from sgym.envs.actions import AGING
from sgym.envs.base import ServingEnv
from sgym.envs.options import Options, named
from sgym.envs.pages import complete
from sgym.simulator import Source


class ColocatedEnv(ServingEnv):
    """An agent schedules the requests of LLM serving engines, one decision at a time.

    ## Description

    Requests arrive at one or more serving engines, each of which computes prompts (prefill) and
    output tokens (decode) on the same GPU. Before an engine forms its next batch, the agent may say
    who runs next: the order of admission and of preemption, how much memory stays free, how large
    batches are. What it says is a Steering, which has only knobs that vLLM has; the simulated
    engine acts on it. How long a batch takes comes from measured tables.

    ```python
    import gymnasium as gym
    import sgym

    env = gym.make("sgym/Colocated-v0", scenario="tiny", action="knobs")
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
    | Action Space | `slots`: MultiDiscrete, `knobs`: Discrete, `scores`, `index`: Box in [-1, 1] |
    | Observation Space | Dict of flat float32 Boxes `requests`, `instances`, `cluster` |
    | import | `gymnasium.make("sgym:sgym/Colocated-v0")` |

    ## Action Space

    It concerns the instance that asks, and stays in force there until its next decision. What
    arrives in between has score 0.

    [[speaking]]

    `action="slots"`: MultiDiscrete, a verb for each of the K slots, then a level of the token
    budget.

    [[verbs]]

    [[budget]]

    `action="scores"`: Box (K,),
    [[scores]]

    `action="knobs"`: Discrete over `sgym.envs.actions.KNOBS`,
    [[knobs]]

    `action="index"`: Box (2 F + 4,), weights w and four numbers.
    [[index]]

    An action that does not apply is a no-op (for `knobs`: what is in force stays) and is counted in
    `info["invalid_actions"]`. Box spaces have no masks.
    [[masks]]

    ## Observation Space

    `requests`: K slots of F features, zeros in an empty one.
    [[slots]]

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
    | `scenario` | "tiny" | name, path or dict of a scenario |
    | `overrides` | none | dotted names to values, such as {"workload.rate": 6.0} |
    | `action` | "slots" | slots, scores, knobs or index |
    | `decision` | "event" | when the agent is asked: event, iteration, admission, interval |
    | `interval` | 0.1 | seconds, for decision="interval" |
    | `num_slots` | 64 | K |
    | `length_hint` | "none" | none, noisy, bucket, oracle: shows a predicted output length |
    | `base` | "spf" | ordering that `index` starts from |
    | `allow_reject` | False | lets `slots` reject; no engine can take over such a policy |
    | `expected_output` | 256.0 | tokens, for reservations |
    | `aging` | 20.0 | tokens per second that waiting counts for in the ordering spf |
    | `extra_features` | () | optional features to switch on |
    | `render_mode` | none | ansi or rgb_array |
    | `controls` | ["schedule"] | with route or migrate: spaces as in sgym/Disaggregated-v0 |

    [[reset]]

    ## Version History

    * v0: first version.

    ## References

    * Wang, Li, Zhou et al., "Revisiting Service Level Objectives and System Level Metrics in LLM
      Serving", arXiv 2410.14257.
    * Kwon et al., "Efficient Memory Management for Large Language Model Serving with
      PagedAttention", SOSP 2023.
    """

    def __init__(
        self,
        scenario: Source = "tiny",
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
        controls: Sequence[str] = ("schedule",),
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
        between = chosen.controls != ("schedule",)
        super().__init__(scenario, overrides, chosen, between, render_mode)


ColocatedEnv.__doc__ = complete(ColocatedEnv.__doc__, ("always", "schedule", "hint", "extra"))
