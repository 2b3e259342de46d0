"""What a hostile document can do to its reader: hang it, fill the memory, kill the process, or be lost silently."""

import importlib
import io
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from PIL import Image

from core.config import PROJECT
from core.corpus import readers
from core.corpus.markdown import neutralize_markdown
from core.corpus.previews import PreviewKind
from core.corpus.readers import MEMORY_BYTES, Readers, share_readers
from core.coverage.labels import subject_words
from core.embedding.chunks import MAX_CHARACTERS, split_markdown
from core.embedding.formats import split_document
from core.errors import InvalidInput
from core.indexes.ingest import read_folder
from core.prompts.answers import is_refusal, split_sentences

pytestmark = pytest.mark.slow

RUNS = "".join("`" * length + " " for length in range(1, 1_500))
NAMES = "abcdefghijk"
BOMB = "".join(f".. |{a}| replace:: {f'|{b}| ' * 9}\n" for a, b in pairwise(NAMES)) + ".. |k| replace:: x\n\n|a|\n"
ENDLESS = {"bomb.rst": BOMB.encode(), "comments.html": b"<!--" * 100_000}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds are enough to detect a document that never ends."""
    monkeypatch.setattr(readers, "SECONDS", 2)
    monkeypatch.setattr(readers, "MOST_SECONDS", 2)


@pytest.mark.deep
def test_a_document_without_end_is_a_problem_with_its_name_and_the_others_are_read(tmp_path: Path) -> None:
    for name, content in {**ENDLESS, "a.md": b"# A\n\nText.\n", "z.rst": b"Z\n=\n\nText.\n"}.items():
        (tmp_path / name).write_bytes(content)
    source = read_folder(tmp_path)
    assert [chunk.document for chunk in source.chunks] == ["a.md", "z.rst"]
    assert [problem.document for problem in source.problems] == ["bomb.rst", "comments.html"]
    assert {problem.reason for problem in source.problems} == {
        "takes more than 2 s of a processor to read, so it is left out; split it or simplify it"
    }


def test_one_process_reads_many_documents_with_limits_and_without_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARTERDECK_COOKIE_SECRET", "c" * 40)
    own = Readers(processes=1)
    before = set(psutil.Process().children())
    for number in range(50):
        assert own.split_document(f"{number}.md", b"# A\n\nText.\n")[0].document == f"{number}.md"
    (child,) = set(psutil.Process().children()) - before
    assert child.rlimit(psutil.RLIMIT_AS)[0] == MEMORY_BYTES
    assert child.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    assert child.rlimit(psutil.RLIMIT_CPU)[0] > 0
    assert not [name for name in child.environ() if name.startswith("QUARTERDECK")]
    own.close()
    assert not child.is_running()


def test_a_process_that_was_killed_between_two_documents_is_replaced() -> None:
    own = Readers(processes=1)
    before = set(psutil.Process().children())
    own.split_document("a.md", b"# A\n\nText.\n")
    (child,) = set(psutil.Process().children()) - before
    child.kill()
    child.wait()
    assert own.split_document("b.md", b"# B\n\nText.\n")
    own.close()


@pytest.mark.deep
def test_a_document_that_needs_too_much_memory_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SECONDS", 120)
    monkeypatch.setattr(readers, "MOST_SECONDS", 120)
    own = Readers(processes=1)
    with pytest.raises(InvalidInput, match="needs more than 1,024 MB of memory to read"):
        own.split_document("large.md", b"\n" * 130_000_000)
    assert own.split_document("b.md", b"# B\n\nText.\n")
    own.close()


@pytest.mark.deep
def test_a_comparison_without_end_is_refused_and_a_short_one_is_made() -> None:
    own = Readers(processes=1)
    with pytest.raises(InvalidInput, match=r"corpus/a\.md: takes more than 2 s"):
        own.compare_words("corpus/a.md", "a\nb\n" * 100_000, "b\na\nc\n" * 100_000)
    assert [segment.text for segment in own.compare_words("a.md", "a fast path", "a slow path")][1:3] == [
        "fast",
        "slow",
    ]
    own.close()


def test_a_picture_and_a_page_of_markdown_are_shown_from_a_process_of_their_own() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (3_000, 20)).save(picture, "PNG")
    shown = share_readers().preview_file("a.png", picture.getvalue())
    assert (shown.kind, shown.note) == (PreviewKind.PICTURE, "3,000 x 20 pixels")
    assert shown.content.startswith(b"\x89PNG")
    assert share_readers().preview_file("a.png", b"no picture").kind is PreviewKind.NONE
    page = share_readers().preview_file("a.md", b"costs $5 :red[x]")
    assert (page.kind, page.text) == (PreviewKind.MARKDOWN, neutralize_markdown("costs $5 :red[x]"))


def test_many_runs_of_backticks_are_read_once_each() -> None:
    assert neutralize_markdown(RUNS) == RUNS
    assert neutralize_markdown(f"{RUNS}$b") == f"{RUNS}\\$b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`$a` $b", "`$a` \\$b"), ("``$a` $b`` $c", "``$a` $b`` \\$c"), ("`$a``$b", "`\\$a``\\$b"),
        ("`$a\n$b` $c", "`$a\n$b` \\$c"),
    ],
)  # fmt: skip
def test_code_is_what_commonmark_takes_for_code(text: str, shown: str) -> None:
    assert neutralize_markdown(text) == shown


@pytest.mark.parametrize("length", [9_990, 10_010, 60_000])
def test_a_long_line_of_restructured_text_is_indexed(length: int) -> None:
    text = ("word " * (length // 5)).strip()
    chunks = split_document("long.rst", f"Title\n=====\n\n{text}\n".encode())
    assert sum(chunk.text.count("word") for chunk in chunks) == length // 5
    assert max(len(chunk.text) for chunk in chunks) <= MAX_CHARACTERS + len("Title\n")


def test_restructured_text_that_gives_nothing_but_errors_says_so() -> None:
    with pytest.raises(InvalidInput, match=r"broken\.rst: cannot be read as rst"):
        split_document("broken.rst", b".. figure::\n")


def test_words_of_one_endless_line_are_cut_in_linear_time() -> None:
    text = "word " * 2_000_000
    chunks = split_document("endless.txt", text.encode())
    assert sum(chunk.text.count("word") for chunk in chunks) == 2_000_000


@pytest.mark.parametrize("line", ["# a" + "#" * 200_000 + "x", "# a" + " #" * 200_000 + "x", "#" * 300_000])
def test_a_heading_without_end_is_cut(line: str) -> None:
    assert split_markdown("a.md", f"{line}\n\nText.\n")


HOSTILE_TEXTS = (
    "\n", " ", "#", "# ", "`", "``` ", "~", ":", ":a", ":a:`", ":a:` ", "<", "<a", "-", "--a", "=", "_", "a", "0", "0.",
    ",", ",{", ",\n{", "\x1b[1", "[", "![", "$", ". ", "'", "\"", "|", "*", "&", "@a.", "a@", "://", "//a", "eyJ",
    "qd_",
    "bearer ", "cookie=", "cookie='", "session id: ", "progress: a 1", "not ", "e.g.", "1 ", "+1", "(", "http://a:",
)  # fmt: skip
# Their patterns are matched with a whole text only, which takes linear time.
WHOLE = ("core.deployments.services", "core.flags.canary_plan")
AT_ITS_START = ("quarterdeck.redaction._NOT_A_PASSWORD",)  # matched once, at the start of a word


@pytest.mark.deep
def test_no_pattern_takes_more_than_linear_time_for_a_long_text() -> None:
    """Each pattern searches 30,000 characters of each text, in a process that is stopped when one never ends."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.attacks.test_documents import search_all; search_all()"],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-500:]}{done.stderr[-2_000:]}"


def list_patterns() -> dict[str, "re.Pattern[str]"]:
    found: dict[str, re.Pattern[str]] = {}
    for folder in ("core", "app", "quarterdeck"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            if "migrations" in name or path.stem in ("__main__", "main") or name in WHOLE:
                continue
            for key, value in vars(importlib.import_module(name)).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    found[f"{name}.{key}"] = value
    return found


def search_all() -> None:
    import signal

    for name, pattern in list_patterns().items():
        for text in HOSTILE_TEXTS:
            for start in ("", "# a"):
                signal.setitimer(signal.ITIMER_VIRTUAL, 5)  # of CPU time, so that a busy machine fails nothing
                print(name, repr(start), repr(text), flush=True)
                hostile = f"{start}{text * (30_000 // len(text))}\x00"
                for _ in pattern.finditer(hostile) if name not in AT_ITS_START else ():
                    pass
                pattern.match(hostile)
                pattern.fullmatch(hostile)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def test_texts_of_users_are_cut_and_named_whatever_they_hold() -> None:
    for text in HOSTILE_TEXTS:
        long = text * (60_000 // len(text))
        assert "".join(split_sentences(long)).strip() in long or split_sentences(long)
        assert is_refusal(long) is False
        assert isinstance(subject_words(long), dict)
