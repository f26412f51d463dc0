"""Which class of users each request is of, and what follows from it."""

import numpy as np

from sgym.config import UserClass
from sgym.errors import ScenarioError
from sgym.workload.lengths import pick_by_share
from sgym.workload.streams import Purpose, stream


def classes_by_share(classes: tuple[UserClass, ...], count: int, seed: int) -> np.ndarray:
    """Drawn by share; int64 (count,)."""
    if len(classes) == 1:
        return np.zeros(count, np.int64)
    uniforms = stream(seed, Purpose.CLASSES).random(count)
    return pick_by_share([user.share for user in classes], uniforms)


def named_classes(classes: tuple[UserClass, ...], values: np.ndarray) -> np.ndarray:
    """Indexes of classes that a trace names, by name or by index."""
    known = {user.name: index for index, user in enumerate(classes)}
    known |= {str(index): index for index in range(len(classes)) if str(index) not in known}
    kinds, inverse = np.unique(values, return_inverse=True)
    unknown = [str(kind) for kind in kinds if kind not in known]
    if unknown:
        raise ScenarioError(
            f"the trace has user_class {unknown[0]!r}, but slo.classes has "
            f"{', '.join(user.name for user in classes)}: rename it or add the class"
        )
    return np.array([known[kind] for kind in kinds], np.int64)[inverse]


def set_classes(
    requests: np.ndarray, classes: tuple[UserClass, ...], user_class: np.ndarray
) -> None:
    """Write user_class, and the priority and tenant that follow from it."""
    requests["user_class"] = requests["tenant"] = user_class
    requests["priority"] = np.array([user.priority for user in classes], np.int32)[user_class]
