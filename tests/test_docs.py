"""README and docs are correct: their commands run on the demo, their links and file names exist."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from app.cli import main
from core.config import PROJECT
from docs.command_reference import list_commands
from tests.conftest import Demo, copy_home

GUIDES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
PAGES = [*GUIDES, *(PROJECT / name for name in ("SECURITY.md", "STYLE.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
RUN, SHOWN = {"bash", "console", "python"}, {"text", "yaml", "json", "nginx", "js"}
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
ADDRESS = "127.0.0.1:8501"
CODE = re.compile(r"`([^`\n]+)`")
FOLDERS = ("app", "benchmarks", "core", "data", "deploy", "docs", "pages", "quarterdeck", "tests")


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide; `reason` says why it is not run ("" where it is)."""

    path: Path
    line: int
    language: str
    text: str
    reason: str

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(PROJECT).as_posix()}:{self.line}"


def list_blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown file, in its order."""
    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0, f"a block of {path.name} is not closed"
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(path, line, found["language"], found["text"], found["reason"] or "")


BLOCKS = [block for path in GUIDES for block in list_blocks(path)]


def prose_of(path: Path) -> str:
    """The text outside of fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def slug_of(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_no_command_is_written_where_it_would_not_be_run() -> None:
    """Every block names its language, and code is fenced, because indented blocks are not run."""
    assert [block.name for block in BLOCKS if block.language not in RUN | SHOWN] == []
    indented = {path.name: re.findall(r"^(?: {4}|\t)\S.*$", prose_of(path), re.MULTILINE) for path in GUIDES}
    assert {name: lines for name, lines in indented.items() if lines} == {}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.reason], ids=lambda block: block.name)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    assert block.language in RUN
    assert len(block.reason.split()) >= 3


def test_every_marker_stands_right_before_a_block() -> None:
    written = sum(path.read_text(encoding="utf-8").count("<!-- not run") for path in GUIDES)
    assert written == sum(1 for block in BLOCKS if block.reason)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_links_and_file_names_lead_somewhere(path: Path) -> None:
    text, lost = prose_of(path), []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name) if name else path
        headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE) if found.suffix == ".md" else []
        if not found.exists() or (anchor and anchor not in map(slug_of, headings)):
            lost.append(target)
    for name in CODE.findall(text):
        is_path = re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+", name) and not name.startswith("data/var")
        if is_path and not (PROJECT / name).exists():
            lost.append(name)
    assert lost == []


def test_a_figure_names_the_script_that_repeats_it() -> None:
    rows = re.findall(r"^\|.*\| `(\w+)[^`|]*` \|$", (PROJECT / "docs" / "figures.md").read_text(), re.MULTILINE)
    assert rows
    scripts = {path.stem for folder in ("benchmarks", "tests") for path in (PROJECT / folder).rglob("*.py")}
    assert [name for name in rows if name not in scripts] == []


def test_pictures_and_the_tour_are_small_and_each_is_shown() -> None:
    shown = {
        (path.parent / target).resolve()
        for path in GUIDES
        for found in re.findall(r"!\[[^\]]+\]\(([^)]+)\)|\]\(([^)]+\.mp4)\)", path.read_text(encoding="utf-8"))
        for target in filter(None, found)
    }
    kept = {each.resolve() for each in (PROJECT / "docs" / "images").iterdir()}
    assert kept == shown
    most = {".mp4": 5_000_000}
    assert [each.name for each in kept if each.stat().st_size > most.get(each.suffix, 200_000)] == []


def test_no_command_is_documented_that_there_is_not() -> None:
    known = {name for name, _ in list_commands(main)}
    groups = {command.rpartition(" ")[0] for command in known} | {"flags"}
    wrong = []
    for path in GUIDES:
        text = path.read_text(encoding="utf-8")
        for found in re.findall(r"(?:^|`|\$\()quarterdeck ((?:[a-z-]+ ?)+)", text, re.MULTILINE):
            words = found.split()
            tried = {" ".join(words[:count]) for count in range(1, len(words) + 1)}
            if not tried & (known | groups):
                wrong.append(f"{path.name}: {found}")
    assert wrong == []


def test_code_points_to_guides_that_there_are() -> None:
    sources = [
        path for folder in ("app", "core", "pages", "deploy", "data") for path in (PROJECT / folder).rglob("*.*")
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in sources if path.suffix in (".py", ".yaml", ".yml")}
    named = {(path.name, name) for path, text in texts.items() for name in re.findall(r"docs/\w+\.md", text)}
    named = {(source, name) for source, name in named if not source.startswith(("corpus", "manifests"))}
    assert named
    assert [each for each in named if not (PROJECT / each[1]).exists()] == []


@pytest.fixture
def desk(demo: Demo, tmp_path: Path) -> Path:
    """A folder that looks like the checkout, with a demo of its own in data/var: what a guide's commands may change."""
    folder = tmp_path / "checkout"
    (folder / "data").mkdir(parents=True)
    copy_home(demo.config.home, folder / "data" / "var")
    for name in ("data/demo", "data/gates.yaml", "data/prices.yaml", "deploy"):
        (folder / name).symlink_to(PROJECT / name)
    return folder


def environ_of(desk: Path) -> dict[str, str]:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = str(desk / "data" / "var")
    return {**os.environ, "PATH": programs, "PYTHONPATH": str(PROJECT), "QUARTERDECK_HOME": home}


@pytest.fixture
def serving(desk: Path) -> Iterator[str]:
    """The address of a deck over the desk's demo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (desk.parent / "serve.log").open("w") as log:
        server = subprocess.Popen(
            ["quarterdeck", "serve", "--port", address.rpartition(":")[2]],
            cwd=desk, env=environ_of(desk), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            for _ in range(1_200):
                assert server.poll() is None, (desk.parent / "serve.log").read_text()
                try:
                    httpx2.get(f"http://{address}/healthz").raise_for_status()
                    break
                except httpx2.TransportError:
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(60)


def run(block: Block, desk: Path, address: str) -> None:
    """Run a block as a reader would; of a console block every line of output must come, `…` being anything."""
    text, expected = block.text.replace(ADDRESS, address), []
    if block.language == "console":
        lines = text.splitlines()
        expected = [line for line in lines if not line.startswith("$ ")]
        text = "\n".join(line[2:] for line in lines if line.startswith("$ "))
    command = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command, cwd=desk, env=environ_of(desk), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{block.name} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    said = done.stdout.splitlines()
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in expected]
    assert [line for line in patterns if not any(re.fullmatch(line, each) for each in said)] == [], done.stdout


RUNNABLE = {path: [b for b in BLOCKS if b.path == path and b.language in RUN and not b.reason] for path in GUIDES}


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize(
    "path", [path for path in GUIDES if RUNNABLE[path]], ids=lambda path: path.relative_to(PROJECT).as_posix()
)
def test_the_commands_of_a_guide_run_one_after_the_other(
    path: Path, desk: Path, request: pytest.FixtureRequest
) -> None:
    blocks = RUNNABLE[path]
    address = request.getfixturevalue("serving") if any(ADDRESS in block.text for block in blocks) else ADDRESS
    for block in blocks:
        run(block, desk, address)
