"""Gateway to processes that read documents: what a hostile file does to a parser, it does to such a process alone.

Each has a limit of memory, and one of processor time that a document's size decides. One process reads many documents.
Run as a program it is such a process: it answers what comes on the socket whose number it is given.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path, PurePosixPath
from typing import Any

import core
from core.corpus.previews import PICTURES, Preview, PreviewKind, preview_file
from core.corpus.worddiff import SegmentKind, TextSegment, compare_words
from core.embedding.chunks import MAX_CHARACTERS, Chunk
from core.embedding.formats import split_document
from core.errors import InvalidInput, SourceUnavailable

MEMORY_BYTES = 1 << 30
SECONDS, MOST_SECONDS, BYTES_A_SECOND = 10, 120, 100_000
DVC_SECONDS, DVC_BYTES = 40, 32_000_000  # what DVC may take to read a project, and how long its answer may be
_PROCESSES = 2
_IDLE_S = 60.0
_WAIT_FACTOR = 4  # a machine that is busy gives a process a quarter of a processor
_IN_PROCESS = (".txt",)  # read in time that grows with its length, and no faster
_MARKDOWN = (".md", ".markdown")


class Readers:
    """A few processes that read documents, started when they are needed, ended when they rest or the program ends."""

    def __init__(self, processes: int = _PROCESSES) -> None:
        self._free = threading.Semaphore(processes)
        self._resting: list[_Reader] = []

    def split_document(self, path: str, content: bytes, *, max_characters: int = MAX_CHARACTERS) -> tuple[Chunk, ...]:
        """Return the chunks of one document, as `formats.split_document` does.

        Raises InvalidInput for what cannot be read too, and for what takes too much time or memory.
        """
        if PurePosixPath(path).suffix.lower() in _IN_PROCESS:
            return split_document(path, content, max_characters=max_characters)
        told, _ = self._ask("split", path, [content, str(max_characters).encode()])
        return tuple(Chunk(path, section, text) for section, text in told)

    def preview_file(self, path: str, content: bytes) -> Preview:
        """Return how a file is shown, as `previews.preview_file` does; one that takes too much is not shown."""
        if PurePosixPath(path).suffix.lower() not in (*PICTURES, *_MARKDOWN):
            return preview_file(path, content)
        try:
            told, parts = self._ask("preview", path, [content])
        except InvalidInput as error:
            return Preview(PreviewKind.NONE, note=f"The file {error.problem}.")
        return Preview(PreviewKind(told["kind"]), told["text"], parts[0], told["note"])

    def compare_words(self, path: str, old: str, new: str) -> tuple[TextSegment, ...]:
        """Return the words that differ in a file, as `worddiff.compare_words` does. Raises as `split_document` does."""
        told, _ = self._ask("compare", path, [old.encode(), new.encode()])
        return tuple(TextSegment(SegmentKind(kind), text) for kind, text in told)

    def ask_dvc(self, what: str, about: str, arguments: Mapping[str, Any]) -> Any:
        """Return what DVC's code answers about files of a repository. Raises as `split_document` does."""
        told, _ = self._ask(what, about, [json.dumps(arguments).encode()], seconds=DVC_SECONDS)
        return told

    def close(self) -> None:
        """End the processes that rest."""
        while self._resting:
            self._resting.pop().end()

    def _ask(
        self, what: str, path: str, parts: Sequence[bytes], *, seconds: int | None = None
    ) -> tuple[Any, list[bytes]]:
        seconds = seconds or min(MOST_SECONDS, SECONDS + sum(map(len, parts)) // BYTES_A_SECOND)
        asked = json.dumps({"what": what, "path": path, "seconds": seconds, "parts": len(parts)}).encode()
        with self._free:
            reader = self._take()
            try:
                told, answered = reader.ask([asked, *parts], seconds * _WAIT_FACTOR)
            except (EOFError, OSError, TimeoutError) as error:
                raise InvalidInput(path, reader.explain_end(error, seconds)) from error
            except BaseException:
                reader.end()
                raise
            if told["goes_on"]:
                self._resting.append(reader)
            else:
                reader.end()
        if "problem" in told:
            raise InvalidInput(told["field"], told["problem"])
        return told["answer"], answered

    def _take(self) -> "_Reader":
        with suppress(IndexError):
            while True:
                reader = self._resting.pop()
                if reader.is_ready():
                    return reader
                reader.end()
        return _Reader()


class _Reader:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        # Nothing of our environment: a parser that a document takes over finds no secret in it.
        environ = {"PYTHONPATH": str(Path(str(core.__file__)).parents[1]), "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno())], env=environ, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=os.sep,
            )  # fmt: skip
        except OSError as error:
            raise SourceUnavailable(f"no process to read documents can be started: {error.strerror}") from error
        finally:
            theirs.close()
        self._socket = ours

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Tell whether it still waits for work; one that rested for too long has said so by closing its socket."""
        return self.is_alive and not self._socket.poll(0)

    def ask(self, parts: Sequence[bytes], within_s: float) -> tuple[Any, list[bytes]]:
        ends = time.monotonic() + within_s
        for part in parts:
            self._socket.send_bytes(part)
        answered = []
        for _ in range(2):
            if not self._socket.poll(max(0.0, ends - time.monotonic())):
                raise TimeoutError
            answered.append(self._socket.recv_bytes())
        return json.loads(answered[0]), answered[1:]

    def explain_end(self, error: BaseException, seconds: int) -> str:
        """Say why there is no answer, and end the process."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if isinstance(error, TimeoutError) else 5)
        code = self._process.poll()
        self.end()
        if isinstance(error, TimeoutError) or code == -getattr(signal, "SIGXCPU", 0):
            return f"takes more than {seconds} s of a processor to read, so it is left out; split it or simplify it"
        return f"ended the process that read it (code {code}), so it is left out"

    def end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


@cache
def share_readers() -> Readers:
    """Return the readers of this process."""
    readers = Readers()
    atexit.register(readers.close)
    return readers


def main(handle: int) -> None:
    """Answer what comes on the socket, until nothing comes any more."""
    with Connection(handle) as socket:
        _limit("RLIMIT_AS", MEMORY_BYTES)
        _limit("RLIMIT_CORE", 0)
        _limit("RLIMIT_FSIZE", 0)
        while socket.poll(_IDLE_S):
            try:
                asked = json.loads(socket.recv_bytes())
                parts = [socket.recv_bytes() for _ in range(asked["parts"])]
            except EOFError:
                return
            with _within(asked["seconds"]):
                told, content, is_sound = _answer(asked["what"], asked["path"], parts)
            socket.send_bytes(json.dumps(told | {"goes_on": is_sound}).encode())
            socket.send_bytes(content)
            if not is_sound:
                return


def _answer(what: str, path: str, parts: list[bytes]) -> tuple[dict[str, Any], bytes, bool]:
    """Return the reply, the bytes that follow it, and whether this process can continue."""
    try:
        answer, content = _WORK[what](path, parts)
        return {"answer": answer}, content, True
    except InvalidInput as error:
        return {"field": error.field, "problem": error.problem}, b"", not isinstance(error.__cause__, MemoryError)
    except MemoryError:
        return {"field": path, "problem": f"needs more than {MEMORY_BYTES >> 20:,} MB of memory to read"}, b"", False


def _split(path: str, parts: list[bytes]) -> tuple[Any, bytes]:
    found = split_document(path, parts[0], max_characters=int(parts[1]))
    return [(chunk.section, chunk.text) for chunk in found], b""


def _preview(path: str, parts: list[bytes]) -> tuple[Any, bytes]:
    preview = preview_file(path, parts[0])
    return {"kind": str(preview.kind), "text": preview.text, "note": preview.note}, preview.content


def _compare(_path: str, parts: list[bytes]) -> tuple[Any, bytes]:
    old, new = (part.decode() for part in parts)
    return [(str(segment.kind), segment.text) for segment in compare_words(old, new)], b""


def _list_outputs(_path: str, parts: list[bytes]) -> tuple[Any, bytes]:
    from core.corpus.dvc_reading import list_outputs, to_json

    return to_json(list_outputs(**json.loads(parts[0])), DVC_BYTES), b""


def _resolve_pipeline(_path: str, parts: list[bytes]) -> tuple[Any, bytes]:
    from core.corpus.dvc_reading import resolve_pipeline, to_json

    return to_json(resolve_pipeline(**json.loads(parts[0])), DVC_BYTES), b""


_WORK: dict[str, Callable[[str, list[bytes]], tuple[Any, bytes]]] = {
    "split": _split, "preview": _preview, "compare": _compare, "outputs": _list_outputs, "pipeline": _resolve_pipeline,
}  # fmt: skip


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Let the system end this process when its work takes longer."""
    used = sum(os.times()[:2])
    _limit("RLIMIT_CPU", int(used) + seconds + 1, hard=False)
    yield
    _limit("RLIMIT_CPU", int(sum(os.times()[:2])) + MOST_SECONDS, hard=False)


def _limit(name: str, value: int, *, hard: bool = True) -> None:
    with suppress(ImportError, ValueError, OSError, AttributeError):  # a system that has no such limit
        import resource

        kind = getattr(resource, name)
        resource.setrlimit(kind, (value, value if hard else resource.getrlimit(kind)[1]))


_MODULE = __spec__.name if __spec__ else __name__

if __name__ == "__main__":
    main(int(sys.argv[1]))
