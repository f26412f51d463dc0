"""The process in vLLM's own environment, which answers a case on a line with a line of JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class RealScheduler:
    """A script that drives the real scheduler, started when it is first needed.

    Args:
        python: of the environment with vLLM.
        script: what answers; `setup.sh` beside it makes the environment.
        paths: folders from which it may import, beside its own.
    """

    def __init__(self, python: Path, script: Path, *paths: Path) -> None:
        self.python, self.script, self.paths = python, script, paths
        self.process: subprocess.Popen[str] | None = None

    def ask(self, case: dict[str, Any]) -> dict[str, Any]:
        """Have it serve a case."""
        if self.process is None:
            self.process = self._started()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"seed"'):  # vLLM prints notes of its own
                return json.loads(line)
        sys.exit(f"the real scheduler stopped in case {case['seed']}; its message is above")

    def _started(self) -> "subprocess.Popen[str]":
        if not self.python.exists():
            setup = self.script.parent / "setup.sh"
            sys.exit(f"no {self.python}: run `sh {setup}` first, or give --python")
        return subprocess.Popen(
            [str(self.python), str(self.script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self.paths))},
        )

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.communicate()
