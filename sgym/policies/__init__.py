"""Schedulers: the Steering, what a policy may see, and the built-in ones by name."""

from sgym.policies.registry import POLICIES, ROUTERS, Builtin, Policy, load_policy
from sgym.policies.steering import HOLD, Steering
from sgym.policies.view import ClusterView, InstanceView, RequestView

__all__ = [
    "HOLD",
    "POLICIES",
    "ROUTERS",
    "Builtin",
    "ClusterView",
    "InstanceView",
    "Policy",
    "RequestView",
    "Steering",
    "load_policy",
]
