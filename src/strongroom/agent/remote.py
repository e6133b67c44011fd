"""Connections of the control plane to agents of other hosts: TLS with the one certificate that the host joined with."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary

import httpx

from strongroom.agent.client import AgentClient

CONNECT = 5.0
"""Seconds that a connection may take."""
GONE = 15
"""Seconds without any packet from the other machine after which a connection breaks, however long its answer may take."""
_OPTIONS: list[tuple[int, int, int]] = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, GONE // 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, GONE // 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GONE * 1000),
]


class _Kept(httpx.AsyncBaseTransport):
    """Connections that outlive the client that used them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._transport = httpx.AsyncHTTPTransport(verify=context, trust_env=False, socket_options=_OPTIONS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


class RemoteAgent:
    """Call it to get a client. Connections are kept for each event loop. ``require``: see ``AgentClient``."""

    def __init__(self, host: str, url: str, context: ssl.SSLContext, require: Callable[[], None] | None = None) -> None:
        self._host = host
        self._url = url
        self._context = context
        self._require = require
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self) -> AgentClient:
        """A client for the running event loop; it need not be closed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._kept:
                self._kept[loop] = _Kept(self._context)
            return AgentClient(self._url, host=self._host, transport=self._kept[loop], connect=CONNECT, require=self._require)
