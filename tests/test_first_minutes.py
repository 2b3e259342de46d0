"""The tutorial docs/first_minutes.md, command by command: uv, wheels of this checkout, and LangChain itself."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from core.config import PROJECT
from tests.browser.conftest import PATIENCE_MS, _wait_until_healthy
from tests.browser.test_sign_in import find_port

pytestmark = [pytest.mark.deep, pytest.mark.slow, pytest.mark.browser]

TEXT = (PROJECT / "docs" / "first_minutes.md").read_text(encoding="utf-8")
SERVE, INSTALL, RUN, DEMO = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
(APP,) = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
QUESTIONS = re.findall(r'"(.+?)"', RUN)


def run(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> None:
    """Run a command to its end; if it fails, say what it said."""
    done = subprocess.run(command, env=environ, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4_000:]}{done.stderr[-8_000:]}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """uv beside this Python, the wheels of this checkout, and packages from where pip finds them."""
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip"]
    made = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(PROJECT), str(PROJECT / "deck")]
    run(made, os.environ, wheels)
    folders = subprocess.run([*pip, "config", "get", ":env:.find-links"], capture_output=True, text=True, check=False)
    others = subprocess.run(
        [*pip, "config", "get", "global.extra-index-url"], capture_output=True, text=True, check=False
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "VIRTUAL_ENV"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "UV_FIND_LINKS": ",".join([str(wheels), *folders.stdout.split()]),
        "UV_INDEX": others.stdout.strip(),
        "UV_CONSTRAINT": str(PROJECT / "constraints.txt"),
        "UV_PYTHON": sys.executable,
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # the best version of all indexes, as pip takes it
        "UV_SYSTEM_CERTS": "1",
        "QUARTERDECK_OTLP_GRPC_PORT": "off",
    }


@pytest.fixture(scope="module")
def address(settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The deck as the tutorial starts it, on a port that is free."""
    if shutil.which("uv", path=settings["PATH"]) is None:
        pytest.skip("uv is not installed")
    folder, port = tmp_path_factory.mktemp("deck"), find_port()
    (warm,) = SERVE.split("\n")[:1]
    environ = {**settings, "QUARTERDECK_HOME": str(folder)}
    run([*warm.split()[:-1], "--help"], environ, folder)
    with (folder / "serve.log").open("w") as log:
        command = [*warm.split(), "--port", str(port)]
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}", process, folder / "serve.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def app(settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tutorial's app in a folder of its own, with what it needs."""
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "ask.py").write_text(APP, encoding="utf-8")
    apart = {name: value for name, value in settings.items() if name != "UV_CONSTRAINT"}
    for command in (INSTALL, RUN.split("\n")[0]):
        run(["bash", "-ec", command], apart, folder)
    return folder


def test_a_question_is_on_the_screen_after_one_variable(
    settings: Mapping[str, str], address: str, app: Path, chromium: Browser
) -> None:
    assert len(QUESTIONS) == 2
    command = RUN.partition("\n")[2].replace("http://127.0.0.1:8501", address)
    done = subprocess.run(["bash", "-ec", command], env=settings, cwd=app, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower(), done.stderr
    began = time.monotonic()
    page = chromium.new_page()
    try:
        page.goto(f"{address}/questions")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
        while time.monotonic() - began < PATIENCE_MS / 1000:
            found = httpx2.get(f"{address}/v1/questions?service=handbook").json()
            if len(found.get("questions", found.get("items", []))) == len(QUESTIONS):
                break
            time.sleep(0.2)
        page.goto(f"{address}/questions?service=handbook")
        expect(page.get_by_text("2 questions").first).to_be_visible(timeout=PATIENCE_MS)
    finally:
        page.close()
