"""The import rules of the project, and what `import sgym` costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sgym"
CORE_MAY_IMPORT = {"numpy", "math", "enum", "typing", "dataclasses", "collections.abc"} | {
    "sgym._jit",
    "sgym.errors",
    "sgym.core",
}
HEAVY = ("torch", "onnxruntime", "pandas", "matplotlib", "pyarrow", "typer", "rich")


def imports_of(source: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_imports_go_down_the_layers():
    checked = run("-c", "from importlinter.cli import lint_imports_command as lint; lint()")

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("source", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.stem)
def test_the_core_knows_nothing_but_arrays(source):
    names = {
        name if not name.startswith("sgym.core.") else "sgym.core" for name in imports_of(source)
    }

    assert names <= CORE_MAY_IMPORT


def test_one_package_imports_numba():
    importers = {
        source.relative_to(PACKAGE).parts[0]
        for source in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "numba" for name in imports_of(source))
    }

    assert importers == {"_jit"}


def test_the_library_does_not_know_agents_and_experiments():
    importers = [
        source.name
        for source in PACKAGE.rglob("*.py")
        if imports_of(source) & {"agents", "experiments", "tests"}
    ]

    assert importers == []


def test_importing_sgym_loads_neither_tables_nor_plots_nor_learning():
    loaded = run("-c", "import sys, sgym; print(*{n.split('.')[0] for n in sys.modules})")

    assert loaded.returncode == 0, loaded.stderr
    assert not set(HEAVY) & set(loaded.stdout.split())
