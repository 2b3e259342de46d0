"""A mail server on this machine that keeps what it is sent: SMTP as smtplib speaks it, without TLS."""

import base64
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Mailbox:
    """What came: `envelopes` are sender, recipients and the message's bytes; `logins` are users and passwords.

    The next replies to `DATA`'s end are taken from `replies`, then it is 250. `refused` recipients get 550.
    """

    port: int = 0
    offers_login: bool = False
    envelopes: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


@contextmanager
def serve_mail(**given) -> Iterator[Mailbox]:
    """Run the server while the block runs."""
    box = Mailbox(**given)

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            _talk(self, box)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    with Server(("127.0.0.1", 0), Conversation) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            server.shutdown()
            thread.join()


def _talk(peer: socketserver.StreamRequestHandler, box: Mailbox) -> None:
    def say(line: str) -> None:
        peer.wfile.write(f"{line}\r\n".encode())

    sender, recipients = "", []
    say("220 mail.test ESMTP")
    while line := peer.rfile.readline().decode().strip():
        verb = line.upper()
        if verb.startswith("EHLO"):
            say("250-mail.test")
            say("250 AUTH PLAIN" if box.offers_login else "250 8BITMIME")
        elif verb.startswith("AUTH PLAIN"):
            _, user, password = base64.b64decode(line.split()[2]).decode().split("\0")
            box.logins.append((user, password))
            say("235 welcome")
        elif verb.startswith("MAIL FROM"):
            sender, recipients = line[line.index("<") + 1 : line.index(">")], []
            say("250 ok")
        elif verb.startswith("RCPT TO"):
            recipient = line[line.index("<") + 1 : line.index(">")]
            recipients += [] if recipient in box.refused else [recipient]
            say("550 no such user" if recipient in box.refused else "250 ok")
        elif verb == "DATA":
            say("354 go on")
            lines = iter(peer.rfile.readline, b".\r\n")
            message = b"".join(each[1:] if each.startswith(b"..") else each for each in lines)
            reply = box.replies.pop(0) if box.replies else "250 ok"
            if reply.startswith("2"):
                box.envelopes.append((sender, recipients, message))
            say(reply)
        elif verb == "QUIT":
            say("221 bye")
            return
        else:
            say("250 ok")
