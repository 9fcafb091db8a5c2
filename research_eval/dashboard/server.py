"""Listens on a port, and ends within a second when it is told to."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from research_eval.dashboard.app import create_app
from research_eval.dashboard.guard import LOOPBACK, Admission
from research_eval.dashboard.live import Doorbell
from research_eval.dashboard.site import Site
from research_eval.errors import ConfigError
from research_eval.store import Store
from research_eval.store.browsing import Browser

DEFAULT_PORT = 8765
PORTS_TRIED = 10
MAX_CONNECTIONS = 400
REQUEST_TIMEOUT_S = 10.0
WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where to listen, and who may ask.

    Attributes:
        host: Address to listen on.
        port: None looks for a free one from `DEFAULT_PORT` on; 0 takes any.
        names: Further names under which browsers may ask.
        with_token: Whether a browser must show a secret once. Where others reach the address, it
            always must.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    names: Sequence[str] = ()
    with_token: bool = False


def serve(store: Store, reports: Path, listening: Listening, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        store: Opened read-only.
        reports: Folder of the reports of `analyze`.
        listening: Where.
        ready: Called with the address that a browser is to open.

    Raises:
        ConfigError: If the port is taken or the host is no address of this machine.
    """
    browser = Browser(store)
    doorbell = Doorbell(browser.state)
    admission = _admission(listening)
    app = create_app(Site(store, browser, reports), doorbell, admission)
    config = uvicorn.Config(
        app,
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    with _bound(listening) as bound:
        ready(_address(listening.host, bound.getsockname()[1], admission.token))
        _Server(config, doorbell).run(sockets=[bound])


def _admission(listening: Listening) -> Admission:
    is_own = listening.host in ("127.0.0.1", "localhost", "::1")
    named = f"[{listening.host}]" if ":" in listening.host else listening.host
    hosts = {*LOOPBACK, named.lower(), *(name.lower() for name in listening.names)}
    if not is_own:
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    token = secrets.token_urlsafe(24) if listening.with_token or not is_own else None
    return Admission(frozenset(hosts), listening.host in WILDCARDS, token)


def _bound(listening: Listening) -> socket.socket:
    asked = listening.port
    ports = range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED) if asked is None else [asked]
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    for port in ports:
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((listening.host, port))
            made.listen(128)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"cannot listen on {listening.host} port {port}: {error.strerror}"
                ) from error
        else:
            return made
    tried = f"port {ports[0]} is" if len(ports) == 1 else f"ports {ports[0]}-{ports[-1]} are"
    raise ConfigError(f"{tried} taken by another program; --port 0 takes any free one")


def _address(host: str, port: int, token: str | None) -> str:
    shown = socket.gethostname() if host in WILDCARDS else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


class _Server(uvicorn.Server):
    """Ends the streams to open pages as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, doorbell: Doorbell) -> None:
        super().__init__(config)
        self._doorbell = doorbell

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._doorbell.close()
        super().handle_exit(sig, frame)


class _ImpatientProtocol(H11Protocol):
    """Drops a connection whose request does not arrive in time, however slowly it trickles."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_answered = self.cycle is not None and not self.cycle.response_complete
        if is_answered:
            self._stop_expecting()
        elif self._deadline is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
