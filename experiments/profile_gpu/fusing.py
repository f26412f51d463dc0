"""Small operations as single kernels, as an engine has them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


def fused(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, on a GPU from a kernel compiled for any number of tokens."""
    if arguments[0].device.type == "cpu":
        return function(*arguments)
    return _compiled(function)(*arguments)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)
