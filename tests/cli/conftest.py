"""Calling the `sgym` command in this process."""

from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sgym.cli import app

Sgym = Callable[..., Result]


@pytest.fixture
def sgym_command(tmp_path, monkeypatch) -> Sgym:
    """A function that runs `sgym` with the arguments it is given, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call
