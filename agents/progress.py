"""How far long work is: a bar on a terminal, and a line for each tenth where there is none."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

TOLD = 10
"""Lines in all, where nobody sees a bar move."""


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Generator[Callable[[str], None]]:
    """Tell on stderr how much is done.

    Args:
        title: of the bar.
        total: steps in all.
        done: steps that an earlier call has finished.

    Yields:
        what to call after each further step, with a title, or "" for the same one.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, completed=done)

        def advance(now: str = "") -> None:
            nonlocal done, title
            done, title = done + 1, now or title
            bar.update(task, advance=1, description=title)
            if not console.is_terminal and done * TOLD // total > (done - 1) * TOLD // total:
                console.print(f"{title}: {done} of {total}", markup=False, highlight=False)

        yield advance
