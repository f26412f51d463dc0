"""Actor-critic policies for schedulers: heads per slot and per instance over a shared encoder.

`SchedulerPolicy` is for PPO, `MaskableSchedulerPolicy` for MaskablePPO. Their parameters do not
depend on the number of slots, so a state_dict loads into a policy for another number of them.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from agents.encoder import Encoded, SetExtractor, Tables, tables
from sgym.envs.actions import (
    BUDGET_LEVELS,
    HOLD,
    INDEX_KNOBS,
    KNOBS,
    MIGRATE,
    PREEMPT,
    REJECT,
)

RASH_VERBS = (PREEMPT, HOLD, REJECT, MIGRATE)
"""Verbs that cost something: an untrained policy seldom says them."""


def action_kind(action_space: spaces.Space[Any], sizes: Tables) -> str:
    """The `action` of an environment: slots, scores, knobs, index or route.

    Args:
        action_space: of the environment.
        sizes: of its observation.

    Raises:
        ValueError: none or several of them have this space.
    """
    if isinstance(action_space, spaces.MultiDiscrete):
        return "slots"
    if isinstance(action_space, spaces.Discrete):
        return "knobs" if action_space.n >= len(KNOBS) else "route"
    length = int(np.prod(action_space.shape or ()))
    numbers = {"scores": sizes.slots, "index": 2 * sizes.request + len(INDEX_KNOBS)}
    found = [kind for kind, own in numbers.items() if length in (own, own + sizes.instances)]
    if len(found) != 1:
        raise ValueError(
            f"cannot tell from the action space {action_space} whether action is scores or index: "
            "give policy_kwargs={'action': ...}"
        )
    return found[0]


class Heads(nn.Module):
    """From an encoded observation to logits or means, in the order of the action's factors.

    Args:
        extractor: what has encoded it, with `sets`.
        kind: slots, scores, knobs, index or route.
        action_space: of the environment.
        caution: how much lower the logits of RASH_VERBS are before training.
    """

    def __init__(
        self, extractor: SetExtractor, kind: str, action_space: spaces.Space[Any], caution: float
    ) -> None:
        super().__init__()
        self._split = extractor.split  # a method, so that the extractor is no child of this module
        sizes, self.kind = extractor.sizes, kind
        per_slot, per_instance, whole = _outputs(kind, action_space, sizes)
        head = partial(_Head, extractor.width, extractor.context_width)
        self.slot_head = head(per_slot) if per_slot else None
        self.instance_head = head(1) if per_instance else None
        self.whole_head = nn.Linear(extractor.context_width, whole) if whole else None
        self._init(caution)

    def _init(self, caution: float) -> None:
        for head in (self.slot_head, self.instance_head):
            if head is not None:
                head.init()
        if self.whole_head is not None:
            ActorCriticPolicy.init_weights(self.whole_head, gain=0.01)
        if self.kind == "slots" and self.slot_head is not None:
            bias = self.slot_head.last.bias
            with torch.no_grad():
                bias[[verb for verb in RASH_VERBS if verb < len(bias)]] = -caution

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, numbers of the action distribution)."""
        encoded: Encoded = self._split(features)
        parts = []
        if self.slot_head is not None:
            parts.append(self.slot_head(encoded.slots, encoded.context).flatten(1))
        if self.whole_head is not None:
            parts.append(self.whole_head(encoded.context))
        if self.instance_head is not None:
            parts.append(self.instance_head(encoded.instances, encoded.context).flatten(1))
        return torch.cat(parts, 1)


def _outputs(kind: str, action_space: spaces.Space[Any], sizes: Tables) -> tuple[int, bool, int]:
    """Numbers per slot, whether there is one per instance, numbers of the whole."""
    if kind == "slots":
        factors = action_space.nvec  # type: ignore[attr-defined]
        return int(factors[0]), len(factors) > sizes.slots + 1, BUDGET_LEVELS
    if kind == "knobs":
        return 0, False, int(action_space.n)  # type: ignore[attr-defined]
    if kind == "route":
        return 0, True, 0
    length = int(np.prod(action_space.shape or ()))
    if kind == "scores":
        return 1, length > sizes.slots, 0
    own = 2 * sizes.request + len(INDEX_KNOBS)
    return 0, length > own, own


class _Head(nn.Module):
    """Numbers for each member of a set, from its encoding and the context."""

    def __init__(self, width: int, context_width: int, outputs: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.context = nn.Linear(context_width, width, bias=False)
        self.last = nn.Linear(width, outputs)

    def init(self) -> None:
        """Start with nearly equal numbers for all."""
        ActorCriticPolicy.init_weights(self.own, gain=2**0.5)
        ActorCriticPolicy.init_weights(self.context, gain=1.0)
        ActorCriticPolicy.init_weights(self.last, gain=0.01)

    def forward(self, members: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(B, members, outputs)."""
        return self.last(torch.tanh(self.own(members) + self.context(context).unsqueeze(1)))


class Towers(nn.Module):
    """Where SB3 has its MLPs: heads take the encoded sets as they are, the critic the context."""

    def __init__(self, extractor: SetExtractor, width: int) -> None:
        super().__init__()
        self.context_width = extractor.context_width
        self.latent_dim_pi, self.latent_dim_vf = extractor.features_dim, width
        self.critic = nn.Sequential(nn.Linear(self.context_width, width), nn.Tanh())

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For the actor and for the critic."""
        return features, self.forward_critic(features)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """(B, features_dim)."""
        return features

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """(B, latent_dim_vf)."""
        return self.critic(features[:, : self.context_width])


class _PerSlot:
    """What both policies add to those of SB3.

    Args:
        width: numbers that encode a slot or an instance.
        context_width: numbers that encode the whole.
        attention: one layer of attention between requests.
        action: the environment's `action`; none = found from its spaces.
        caution: how much lower the logits of verbs that cost something are before training.
        arguments: of SB3's policy.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        width: int = 32,
        context_width: int = 64,
        attention: bool = False,
        action: str | None = None,
        caution: float = 2.0,
        **arguments: Any,
    ) -> None:
        self._kind = action or action_kind(action_space, tables(observation_space))
        self._caution = caution
        self._shape = {"width": width, "context_width": context_width, "attention": attention}
        policy: Any = super().__init__  # of SB3's policy, which comes next
        policy(
            observation_space,
            action_space,
            lr_schedule,
            **{
                **arguments,
                "features_extractor_class": SetExtractor,
                "features_extractor_kwargs": {**self._shape, "sets": True},
            },
        )

    def _build(self: Any, lr_schedule: Schedule) -> None:
        extractor: SetExtractor = self.features_extractor
        extractor.apply(partial(self.init_weights, gain=2**0.5))
        self.mlp_extractor = Towers(extractor, extractor.context_width)
        self.mlp_extractor.apply(partial(self.init_weights, gain=2**0.5))
        self.action_net = Heads(extractor, self._kind, self.action_space, self._caution)
        if isinstance(self.action_space, spaces.Box):
            self.log_std = nn.Parameter(torch.full((1,), float(self.log_std_init)))  # of all slots
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        self.value_net.apply(partial(self.init_weights, gain=1.0))
        rate = lr_schedule(1)
        self.optimizer = self.optimizer_class(self.parameters(), lr=rate, **self.optimizer_kwargs)

    def _get_constructor_parameters(self: Any) -> dict[str, Any]:
        data = super()._get_constructor_parameters()  # type: ignore[misc]
        data |= {**self._shape, "action": self._kind, "caution": self._caution}
        return data


class SchedulerPolicy(_PerSlot, ActorCriticPolicy):
    """For PPO, under any action of the environments."""


class MaskableSchedulerPolicy(_PerSlot, MaskableActorCriticPolicy):
    """For MaskablePPO, under slots, knobs and route."""
