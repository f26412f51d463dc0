"""Serve a policy: an engine in any language posts its state and gets a Steering back.

    POST /decide   body: `wire.State` as JSON; answer: `wire.Answer`
    GET  /about    what the policy is, and the JSON Schema of both messages
    GET  /health   200 while it serves

What cannot be answered gets `{"error": ...}` and the server goes on: 400 for a wrong message, 413
for one that is too large, 422 for a state in which the network fails, 404 and 405 for another path
or method. 204 means that all stays as it is. It listens on a Unix socket that only its user may
open, or on a loopback address.
"""

import asyncio
import ipaddress
import signal
import socket as socket_module
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sgym.errors import PolicyError
from sgym.export.adapter import Decides
from sgym.export.wire import answer_to, schema, view_of

MOST_BYTES = 16 * 2**20
"""Of a message, unless told otherwise."""
PATHS = "POST /decide, GET /about, GET /health"
GRACE = 2.0
"""Seconds that requests under way may take after a stop."""


def application(policy: Decides, about: dict[str, Any], most_bytes: int = MOST_BYTES) -> Any:
    """The aiohttp application that serves a policy.

    Args:
        policy: who decides.
        about: what `GET /about` says of it.
        most_bytes: of a message.

    Raises:
        PolicyError: aiohttp is not installed.
    """
    web = _web()
    described = {**about, "paths": PATHS.split(", "), "schema": schema()}

    async def decide(request: Any) -> Any:
        try:
            view = view_of(await request.read())
        except PolicyError as error:
            return web.json_response({"error": str(error)}, status=400)
        try:
            steering = policy.decide(view)
        except PolicyError as error:
            return web.json_response({"error": str(error)}, status=422)
        if steering is None:  # all stays as it is
            return web.Response(status=204)
        answer = answer_to(view, steering)
        return web.Response(text=answer.model_dump_json(), content_type="application/json")

    async def show(_: Any) -> Any:
        return web.json_response(described)

    async def healthy(_: Any) -> Any:
        return web.json_response({"status": "serving"})

    @web.middleware
    async def as_json(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            said, status = f"the message has more than {most_bytes} bytes", 413
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            said, status = f"no {request.method} {request.path} here: {PATHS}", error.status
        return web.json_response({"error": said}, status=status)

    app = web.Application(client_max_size=most_bytes, middlewares=[as_json])
    app.add_routes(
        [web.post("/decide", decide), web.get("/about", show), web.get("/health", healthy)]
    )
    return app


def check_host(host: str, expose: bool) -> None:
    """Refuse an address that other machines reach, unless that is wanted.

    Raises:
        PolicyError: it is one.
    """
    if expose or host == "localhost":
        return
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    raise PolicyError(
        f"--host is {host!r}, which other machines may reach, and nobody is asked for a password: "
        "leave it out for 127.0.0.1, use --socket, or say --expose"
    )


async def serve(
    app: Any,
    socket: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation, then let what is under way end.

    Args:
        app: from `application`.
        socket: path of a Unix socket; None = host and port.
        host: address to listen on.
        port: 0 = any free one.
        ready: called with where it listens, once it does.

    Raises:
        PolicyError: it cannot listen there.
    """
    web = _web()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        if socket is not None:
            forget_socket(socket)
            await web.UnixSite(runner, str(socket)).start()
            socket.chmod(stat.S_IRUSR | stat.S_IWUSR)
            ready(str(socket))
        else:
            await web.TCPSite(runner, host, port).start()
            ready(f"http://{host}:{runner.addresses[0][1]}")
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(RuntimeError, ValueError):  # in a thread that is not the first
                loop.add_signal_handler(number, stopped.set)
        await stopped.wait()
    except OSError as error:
        where = socket if socket is not None else f"{host}:{port}"
        raise PolicyError(f"cannot listen on {where} ({error.strerror}): choose another") from None
    finally:
        await runner.cleanup()
        if socket is not None:
            socket.unlink(missing_ok=True)


def forget_socket(path: Path) -> None:
    """Remove a socket that a server left behind.

    Raises:
        PolicyError: somebody listens there, or the path is something else.
    """
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise PolicyError(f"--socket {path} is a file that is no socket: choose another path")
    with socket_module.socket(socket_module.AF_UNIX) as asked, suppress(OSError):
        asked.connect(str(path))
        raise PolicyError(f"--socket {path} is in use: stop its server, or choose another path")
    path.unlink()


def _web() -> Any:
    try:
        from aiohttp import web
    except ImportError:
        raise PolicyError("serving needs aiohttp: pip install 'sgym[serve]'") from None
    return web
