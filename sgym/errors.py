"""Every error that sgym raises on purpose, so that a caller can catch one name."""


class SgymError(Exception):
    """Base of all errors with a message written for the person who has to fix something."""


class ScenarioError(SgymError, ValueError):
    """A scenario, or an override of one, breaks a rule; the message names field, value and rule."""


class TraceError(SgymError, ValueError):
    """A trace cannot be read, or nothing of it is left after filtering."""


class ProfileError(SgymError, ValueError):
    """A latency profile is missing, damaged, or does not cover what was asked."""


class PolicyError(SgymError, ValueError):
    """A policy is unknown, cannot be loaded, or answered with something that is no Steering."""


class SimulationError(SgymError, RuntimeError):
    """The simulated engine reached a state that it must never reach; please report it."""
