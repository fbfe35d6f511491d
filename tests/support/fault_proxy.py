"""A proxy between S3 clients and a real S3 server that injects faults.

The proxy passes requests on unchanged, so that their signatures stay valid (they cover the Host header, which is the address of the
proxy). It injects a fault into a random share of the requests: a reset before or after the server has acted, 503 SlowDown,
no answer, or an answer with a truncated body.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.support.services import S3Server

FAULTS = ("reset", "lost answer", "slow down", "no answer", "cut off")
DENIED = "denied"
"""Access denied. It is not among `FAULTS`, because it is permanent."""
ERRORS = {"slow down": ("503 Slow Down", "SlowDown"), DENIED: ("403 Forbidden", "AccessDenied")}
RST = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """The proxy, in its own process."""

    endpoint: str
    """The real server."""
    share: float
    """Share of the requests that get a fault, 0 to 1."""
    kinds: tuple[str, ...]
    calm_requests: int
    """Number of first requests that pass without a fault."""
    faults: Counter[str] = field(default_factory=Counter)
    """Number of faults of each kind."""
    num_requests: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(4))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on the requests of one connection."""
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._pass_on(reader, writer):
                    pass
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass on one request; return whether the connection can be used again."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        if any(line.lower().startswith("expect:") for line in lines):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _body(reader, lines)
        self.num_requests += 1
        is_due = self.num_requests > self.calm_requests and self.chance.random() < self.share
        fault = self.chance.choice(self.kinds) if is_due else None
        if fault is not None:
            self.faults[fault] += 1
        if fault == "reset":
            return _reset(writer)
        if fault == "no answer":
            await reader.read()  # until the client gives up
            return False
        if fault in ERRORS:
            writer.write(_error(*ERRORS[fault], with_body=not first.startswith("HEAD ")))
            await writer.drain()
            return True
        passed = [line for line in lines if line.lower().split(":")[0] not in {"expect", "connection"}]
        answer = await self._ask("\r\n".join([first, *passed, "Connection: close", "", ""]).encode("latin-1") + body)
        if fault == "lost answer":
            return _reset(writer)
        if fault == "cut off":
            begin = answer.find(b"\r\n\r\n") + 4
            writer.write(answer[: begin + (len(answer) - begin) // 2] if len(answer) > begin else answer[: begin // 2])
            await writer.drain()
            return False
        writer.write(answer)
        await writer.drain()
        return False

    async def _ask(self, request: bytes) -> bytes:
        parts = urlsplit(self.endpoint)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


def _error(status: str, code: str, *, with_body: bool) -> bytes:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}, says the proxy</Message></Error>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + (body if with_body else "")).encode()


async def _body(reader: asyncio.StreamReader, lines: list[str]) -> bytes:
    headers = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines}
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while True:
        size = await reader.readline()
        chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
        body += size + chunk
        if chunk == b"\r\n":
            return body


def _reset(writer: asyncio.StreamWriter) -> bool:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    writer.transport.abort()
    return False


async def _serve(proxy: Proxy) -> None:
    """Serve until standard input ends, then print the counts."""
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"num_requests": proxy.num_requests, "faults": proxy.faults}), flush=True)


@dataclass
class FaultProxy:
    """A running proxy; its counts are set when it has ended."""

    address: "S3Server"
    """The server, as clients reach it through the proxy."""
    faults: Counter[str] = field(default_factory=Counter)
    num_requests: int = 0


@contextlib.contextmanager
def fault_proxy(
    server: "S3Server", share: float, kinds: tuple[str, ...] = FAULTS, calm_requests: int = 0
) -> Iterator[FaultProxy]:
    """Run a proxy in front of `server`; the first `calm_requests` requests get no fault."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.fault_proxy", server.endpoint, str(share), str(calm_requests), *kinds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            proxy = FaultProxy(replace(server, endpoint=f"http://127.0.0.1:{port}"))
            yield proxy
            process.stdin.close()
            counts = json.loads(process.stdout.readline())
            proxy.num_requests, proxy.faults = counts["num_requests"], Counter(counts["faults"])
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(Proxy(sys.argv[1], float(sys.argv[2]), tuple(sys.argv[4:]), int(sys.argv[3]))))
