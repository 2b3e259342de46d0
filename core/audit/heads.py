"""Rule: signed heads of the audit trail: how many entries there were at a time, and the hash of the last one.

The hash of an entry covers all entries before it, so a head that is kept elsewhere proves what the trail was then.
Signatures are Ed25519; the private key is kept outside the store.
"""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_FIELDS = {"entries": int, "entry_id": int, "hash": str, "at": str, "key": str, "signature": str}
_HASH_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the trail at a time: the number of entries, and the id and the hash of the last one.

    `at` is an ISO time. `key` names the key that made the `signature`, both "" where nobody signed.
    """

    entries: int
    entry_id: int
    hash: str
    at: str
    key: str = ""
    signature: str = ""


def sign_head(head: Head, private: "Ed25519PrivateKey") -> Head:
    """Return the head with its signature."""
    named = Head(head.entries, head.entry_id, head.hash, head.at, name_key(private.public_key()))
    signature = base64.b64encode(private.sign(_signed_text(named))).decode()
    return Head(named.entries, named.entry_id, named.hash, named.at, named.key, signature)


def is_signed_by(head: Head, public: "Ed25519PublicKey") -> bool:
    """Tell whether a head was signed by the owner of a key, and not changed since."""
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(base64.b64decode(head.signature, validate=True), _signed_text(head))
    except (InvalidSignature, ValueError):
        return False
    return True


def name_key(public: "Ed25519PublicKey") -> str:
    """Return the name of a key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def make_keys() -> tuple[bytes, bytes]:
    """Return a new private key and its public one, as PEM."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    public = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    return secret, public


def read_private_key(pem: bytes) -> "Ed25519PrivateKey":
    """Return a private key. Raises InvalidInput when it is none of Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Ed25519PrivateKey = _read_key(Ed25519PrivateKey, lambda: load_pem_private_key(pem, None))
    return key


def read_public_key(pem: bytes) -> "Ed25519PublicKey":
    """Return a public key, also that of a private one. Raises InvalidInput when it is none of Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in pem:
        return read_private_key(pem).public_key()
    key: Ed25519PublicKey = _read_key(Ed25519PublicKey, lambda: load_pem_public_key(pem))
    return key


def write_head(head: Head) -> str:
    """Return a head as one line of JSON."""
    return json.dumps(asdict(head), sort_keys=True)


def read_heads(text: str) -> tuple[Head, ...]:
    """Return the heads in lines of JSON. A hash alone is a head that nobody signed. Raises InvalidInput."""
    return tuple(_read_line(line.strip(), number) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _read_line(line: str, number: int) -> Head:
    if len(line) == _HASH_CHARACTERS and all(letter in "0123456789abcdef" for letter in line):
        return Head(0, 0, line, "")
    try:
        found = json.loads(line)
        if {name: type(value) for name, value in found.items()} == _FIELDS:
            datetime.fromisoformat(found["at"])
            return Head(**found)
    except (ValueError, AttributeError):
        pass
    raise InvalidInput("head", f"line {number} is no head; quarterdeck audit head prints one")


def _signed_text(head: Head) -> bytes:
    fields = ["quarterdeck audit head", head.entries, head.entry_id, head.hash, head.at, head.key]
    return json.dumps(fields).encode()


def _read_key(kind: type, load: Any) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        found = load()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput("key", f"cannot be read: {str(error)[:200]}") from error
    if not isinstance(found, kind):
        raise InvalidInput("key", "must be an Ed25519 key in PEM; make one with: quarterdeck audit keygen FILE")
    return found
