"""Calling the `sgym` command in this process."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from sgym.cli import app

Sgym = Callable[..., Any]


@pytest.fixture
def sgym_command(tmp_path, monkeypatch) -> Sgym:
    """A function that runs `sgym` with the arguments it is given, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def call(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call
