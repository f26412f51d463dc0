"""Comparing schedulers: many runs, in parallel and resumable, as one table with intervals."""

from sgym.comparison.compare import DEFAULT_POLICIES, Comparison, compare, default_policies
from sgym.comparison.knee import Knee

__all__ = ["DEFAULT_POLICIES", "Comparison", "Knee", "compare", "default_policies"]
