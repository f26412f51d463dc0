"""What a wheel of the project holds, and that the README says what is true."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer.main
import yaml

from sgym import profiles
from sgym.cli import app
from sgym.loading import builtin_scenarios

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built with the build backend that is installed, as nothing may be downloaded here."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as opened:
        yield opened


def test_the_wheel_holds_scenarios_profiles_and_lengths(wheel):
    names = set(wheel.namelist())

    assert {f"sgym/envs_configs/{path.name}" for path in (ROOT / "envs_configs").glob("*")} <= names
    assert {f"sgym/profiles/data/{name}.json" for name in profiles.names()} <= names
    assert "sgym/workload/data/datasets.json" in names
    assert builtin_scenarios()


def test_the_wheel_holds_the_zoo(wheel):
    zoo = ROOT / "agents" / "zoo"
    files = [path.relative_to(zoo) for path in zoo.rglob("*") if path.is_file()]

    assert {f"sgym/zoo/{path.as_posix()}" for path in files} <= set(wheel.namelist())


def test_the_wheel_holds_nothing_beside_the_library(wheel):
    folders = {name.split("/")[0] for name in wheel.namelist()}

    assert folders == {"sgym", next(name for name in folders if name.endswith(".dist-info"))}


def test_the_wheel_brings_licence_and_command(wheel):
    text = {name.rpartition("/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}

    assert "Apache License" in wheel.read(text["LICENSE"]).decode()
    assert "sgym = sgym.cli:app" in wheel.read(text["entry_points.txt"]).decode()


def test_the_constraints_pin_everything_that_is_declared():
    pinned = re.findall(r"^([\w.-]+)==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    declared = re.findall(
        r'^    "([\w-]+)(?:\[\w+\])?>=', (ROOT / "pyproject.toml").read_text(), re.M
    )

    assert len(declared) > 20
    assert {name.lower() for name in declared} <= {
        name.lower().replace("_", "-") for name in pinned
    }


def test_the_first_two_commands_of_the_readme_make_their_own_environment():
    compare, test = blocks("sh")[:2]

    for command in (compare, test):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && ")
        assert "-c constraints.txt" in command
    assert "sgym compare" in compare
    assert "pytest" in test


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_yaml_block_of_the_readme_can_be_read(block):
    assert yaml.safe_load(block)


def sgym_commands() -> list[str]:
    text = "".join(blocks("sh"))
    return re.findall(r"(?:^|/| )sgym ((?!>=)[a-z][^\n&|]*)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("line", sgym_commands())
def test_a_command_of_the_readme_exists_with_its_options(line):
    words = line.split("#")[0].split()
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}

    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_a_python_block_of_the_readme_runs(index, tmp_path):
    """Each block is a program of its own; where it says how long to run, the test says less."""
    program = tmp_path / "program.py"
    program.write_text(re.sub(r"\b\d\d_000\b", "2_048", blocks("python")[index]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
