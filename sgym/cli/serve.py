"""`sgym serve`: a policy that engines ask over a socket."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from sgym.cli.common import console
from sgym.export.serve import MOST_BYTES, application, check_host
from sgym.export.serve import serve as listen


def serve(
    bundle: Annotated[str, typer.Argument(help="zoo:NAME, or the folder of a bundle.")],
    socket: Annotated[
        Path | None, typer.Option(help="Listen on a Unix socket at this path, not on a port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free one.")] = 8765,
    expose: Annotated[
        bool, typer.Option(help="Allow an address that other machines reach.")
    ] = False,
    most_bytes: Annotated[
        int, typer.Option(min=1024, help="Largest message that is read.")
    ] = MOST_BYTES,
) -> None:
    """Answer engines over HTTP: POST a state to /decide; GET /about explains the messages."""
    from sgym.export.runtime import PolicyRuntime

    if socket is None:
        check_host(host, expose)
    runtime = PolicyRuntime(bundle)
    app = application(runtime, {"bundle": bundle}, most_bytes)
    out = console()
    asyncio.run(
        listen(app, socket, host, port, lambda where: out.print(f"serving {bundle} on {where}"))
    )
    out.print("stopped")
