"""A served policy: over a port and over a Unix socket, with wrong messages, until it is stopped."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from served import STATE, Shortest

from sgym.errors import PolicyError
from sgym.export import serve


class Served:
    """A server in a thread."""

    def __init__(self, policy=None, **where):
        self.where, self.started = "", threading.Event()
        self.policy = policy or Shortest()
        self.thread = threading.Thread(target=self._run, args=(where,))

    def __enter__(self):
        self.thread.start()
        assert self.started.wait(20)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def _run(self, where):
        async def main():
            self.loop, self.task = asyncio.get_running_loop(), asyncio.current_task()
            app = serve.application(self.policy, {"bundle": "mine"}, most_bytes=20_000)
            await serve.serve(app, ready=self._ready, **where)

        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main())

    def _ready(self, where):
        self.where = where
        self.started.set()

    def connection(self):
        if self.where.startswith("http"):
            return http.client.HTTPConnection(self.where.removeprefix("http://"), timeout=20)
        return over_socket(self.where)

    def ask(self, method, path, body=None):
        connection = self.connection()
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        return answer.status, json.loads(found) if found else None


def over_socket(path):
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(path)
    return connection


@pytest.fixture
def place():
    """A short path: those of sockets may have about 100 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "policy.sock"


@pytest.mark.parametrize("kind", ["port", "socket"])
def test_an_engine_posts_its_state_and_gets_a_steering(kind, place):
    with Served(**({"port": 0} if kind == "port" else {"socket": place})) as server:
        status, answer = server.ask("POST", "/decide", json.dumps(STATE))
        assert (status, answer["preempt"]) == (200, [7])
        assert answer["waiting_score"] == [-40.0, -10.0, None]
        status, about = server.ask("GET", "/about")
        assert (status, about["bundle"]) == (200, "mine")
        assert about["paths"] == ["POST /decide", "GET /about", "GET /health"]
        assert about["schema"]["state"]["title"] == "State"
        said = about["schema"]["answer"]["properties"]["waiting_score"]["description"]
        assert "those of `running` and then those of `waiting`" in said
        assert server.ask("GET", "/health") == (200, {"status": "serving"})
    assert not place.exists()


def test_only_its_user_may_open_the_socket(place):
    with Served(socket=place):
        assert place.stat().st_mode & 0o777 == 0o600


def test_wrong_messages_are_answered_and_the_server_goes_on():
    with Served(port=0) as server:
        for body in (b"", b"{", b"\xff\xfe", b"null", json.dumps({**STATE, "now": None}).encode()):
            status, answer = server.ask("POST", "/decide", body)
            assert status == 400
            assert answer["error"]
        connection = server.connection()
        connection.request("POST", "/decide", b" " * 30_000)
        refused = connection.getresponse()
        assert refused.status == 413
        assert json.loads(refused.read()) == {"error": "the message has more than 20000 bytes"}
        connection.close()
        for method, path, status in (("GET", "/decide", 405), ("GET", "/abuot", 404)):
            said = f"no {method} {path} here: POST /decide, GET /about, GET /health"
            assert server.ask(method, path) == (status, {"error": said})
        raw = socket.create_connection(server.where.removeprefix("http://").split(":"), 20)
        raw.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
        raw.recv(1000)
        raw.close()
        assert server.ask("POST", "/decide", json.dumps(STATE))[0] == 200


class Says:
    """A policy that changes nothing, or that is broken."""

    def __init__(self, broken):
        self.broken = broken

    def decide(self, _):
        if self.broken:
            raise PolicyError("logits has NaN")


def test_a_policy_may_say_nothing_and_one_that_fails_does_not_end_the_server():
    with Served(Says(broken=False), port=0) as server:
        assert server.ask("POST", "/decide", json.dumps(STATE)) == (204, None)
    with Served(Says(broken=True), port=0) as server:
        status, answer = server.ask("POST", "/decide", json.dumps(STATE))
        assert (status, answer["error"]) == (422, "logits has NaN")
        assert server.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_an_address_that_others_reach_is_refused(host):
    with pytest.raises(PolicyError, match="--expose"):
        serve.check_host(host, expose=False)
    serve.check_host(host, expose=True)


def test_loopback_is_allowed():
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        serve.check_host(host, expose=False)


def test_a_path_that_is_taken_is_refused_and_a_dead_socket_is_replaced(place):
    place.write_text("notes")
    with pytest.raises(PolicyError, match="no socket"):
        serve.forget_socket(place)
    place.unlink()
    with Served(socket=place) as server:
        with pytest.raises(PolicyError, match="in use"):
            serve.forget_socket(place)
        assert server.ask("GET", "/health")[0] == 200
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(place))
    dead.close()
    with Served(socket=place) as server:
        assert server.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_an_entry_of_the_zoo_until_it_is_told_to_stop(place, number):
    command = [sys.executable, "-c", "from sgym.cli import app; app()", "serve", "zoo:tiers_8b"]
    command += ["--socket", str(place)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("serving zoo:tiers_8b on ")
        connection = over_socket(str(place))
        connection.request("POST", "/decide", json.dumps(STATE))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert len(answer["waiting_score"]) == 3
        server.send_signal(number)
        assert server.wait(20) == 0
        assert "stopped" in server.stdout.read()
    assert not place.exists()
