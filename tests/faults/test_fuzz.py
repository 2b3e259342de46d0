"""Readers of what others send, given a corpus of odd inputs and mutations of them: each refuses in our own error.

The corpus is in `corpus/`, a folder for each reader; whoever finds an input that breaks one adds it there. With
`QUARTERDECK_FUZZ_SECONDS=60` each reader is given mutations for so long.
"""

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.intake import otlp
from core.intake.spans import read_span
from core.intake.tables import TableFile
from core.safety.letters import parse_any_json
from quarterdeck.errors import QuarterdeckError
from quarterdeck.flags import FlagSet
from quarterdeck.preview import explain
from quarterdeck.redaction import redact
from quarterdeck.retrieval import Retrieval
from quarterdeck.validation import validate_document

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CORPUS = Path(__file__).with_name("corpus")
SECONDS = float(os.environ.get("QUARTERDECK_FUZZ_SECONDS", "15"))
PIECES = (
    b"\x00", b"\xff\xfe", b"\\ud800", b"1e999", b"-1", b"9" * 40, b"null", b"true", b'""', b"[]", b"{}", b"NaN", b"\n",
    b"\r", b'"', b",", b";", b"\xe2\x80\xae", b"[" * 200, b'{"a":' * 50, b"$ref", b"..", b"=", b"@", b"`" * 99,
    b" " * 99,
)  # fmt: skip


def read_spans(given: bytes, _folder: Path) -> None:
    for kind in (otlp.JSON, otlp.PROTOBUF):
        try:
            for span in otlp.read_request(given, kind):
                read_span(span, redact=redact)
        except QuarterdeckError:
            continue


def read_flags(given: bytes, _folder: Path) -> None:
    document = parse_any_json(given)
    if not isinstance(document, dict):
        return
    validate_document(document)
    flags = FlagSet.from_definitions(document)
    for key, definition in document["flags"].items():
        flags.evaluate(key, None, {"targetingKey": "u"})
        explain(key, definition, {"targetingKey": "u", "country": "DE"})


def read_table(given: bytes, folder: Path) -> None:
    file = folder / "given.csv"
    file.write_bytes(given)
    for _ in TableFile(file).rows():
        pass


def read_query(given: bytes, _folder: Path) -> None:
    text = given.decode("utf-8", "surrogateescape")
    once = redact(text)
    assert len(once) <= 4 * len(text) + 100
    Retrieval(ts=NOON, query=once, score=0.5)


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "otlp": read_spans, "flags": read_flags, "csv": read_table, "queries": read_query,
}  # fmt: skip


def list_inputs(reader: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / reader).iterdir())]


def mutate(rng: random.Random, inputs: list[bytes]) -> bytes:
    """Return one of the inputs with up to eight changes: bytes flipped, cut, doubled, or taken from another."""
    given = bytearray(rng.choice(inputs))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(given) + 1)
        end = min(len(given), at + rng.randint(1, 40))
        match rng.randrange(5):
            case 0:
                given[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
            case 1:
                del given[at:end]
            case 2:
                given[at:at] = given[at:end] * rng.randint(1, 4)
            case 3:
                given[at:at] = rng.choice(PIECES)
            case _:
                other = rng.choice(inputs)
                start = rng.randrange(len(other) + 1)
                given[at:end] = other[start : start + rng.randint(1, 80)]
    return bytes(given[:50_000])


def give(reader: str, given: bytes, folder: Path) -> None:
    try:
        READERS[reader](given, folder)
    except QuarterdeckError:
        pass
    except Exception as error:
        raise AssertionError(f"{reader} broke; add this to {CORPUS.name}/{reader}: {given!r}") from error


@pytest.mark.parametrize("reader", READERS)
def test_every_input_of_the_corpus_is_read_or_refused(reader: str, tmp_path: Path) -> None:
    inputs = list_inputs(reader)
    assert len(inputs) >= 8
    for given in inputs:
        give(reader, given, tmp_path)


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("reader", READERS)
def test_mutations_of_the_corpus_are_read_or_refused(reader: str, tmp_path: Path) -> None:
    rng, inputs, end = random.Random(os.urandom(8)), list_inputs(reader), time.monotonic() + SECONDS
    while time.monotonic() < end:
        give(reader, mutate(rng, inputs), tmp_path)
