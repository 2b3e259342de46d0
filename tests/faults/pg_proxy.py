"""A TCP proxy before PostgreSQL that delays what passes, or cuts a connection around the COMMIT of a transaction."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

COMMIT = b"COMMIT\x00"


class Cut(StrEnum):
    """Where a connection ends: the commit has happened and nobody hears of it, or it never arrives."""

    AFTER = "after the commit"
    BEFORE = "before the commit"


@dataclass
class Proxy:
    """Passes bytes on. `arm` cuts one connection: the next that commits after it sent bytes that hold `written`."""

    url: str
    delay_s: float = 0.0
    cuts: int = 0
    _plan: tuple[bytes, Cut] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, written: bytes, cut: Cut) -> None:
        self._plan = (written, cut)

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on both directions until one side ends."""
        threading.Thread(target=self._carry_back, args=(client, server), daemon=True).start()
        sent = b""
        with suppress(OSError):
            while part := client.recv(65_536):
                time.sleep(self.delay_s)
                sent += part
                if COMMIT in part:
                    if cut := self._take(sent):
                        if cut is Cut.AFTER:
                            _commit_unheard(client, server, part)
                        break
                    sent = b""
                server.sendall(part)
        _end(client, server)

    def _carry_back(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while part := server.recv(65_536):
                time.sleep(self.delay_s)
                client.sendall(part)
        _end(client, server)

    def _take(self, sent: bytes) -> Cut | None:
        with self._lock:
            if self._plan is None or self._plan[0] not in sent:
                return None
            cut, self._plan = self._plan[1], None
            self.cuts += 1
            return cut


def _commit_unheard(client: socket.socket, server: socket.socket, part: bytes) -> None:
    """Send the COMMIT once the client cannot hear its answer any more, and leave the server time for it."""
    client.shutdown(socket.SHUT_RDWR)
    server.sendall(part)
    time.sleep(0.5)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def proxying(server_socket: str, url: str) -> Iterator[Proxy]:
    """Listen on a free port of this machine, and pass on to the server's socket; `url` holds `{port}`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy, over = Proxy(url.format(port=listening.getsockname()[1])), threading.Event()

        def accept() -> None:
            while not over.is_set():
                with suppress(OSError):
                    client, _ = listening.accept()
                    try:
                        server = socket.socket(socket.AF_UNIX)
                        server.connect(server_socket)
                    except OSError:  # PostgreSQL is away
                        client.close()
                        continue
                    threading.Thread(target=proxy.carry, args=(client, server), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield proxy
        over.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", listening.getsockname()[1])).close()
        thread.join()
