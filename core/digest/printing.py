"""Gateway to Chromium: prints a page to PDF, without scripts from elsewhere, network or a profile of anybody."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from core.errors import SourceUnavailable

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_S = 60.0
_FLAGS = (
    "--headless", "--disable-gpu", "--disable-extensions", "--disable-sync", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--no-pdf-header-footer", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def print_pdf(html: str, *, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return an HTML page as PDF. Raises SourceUnavailable where there is no Chromium, or it does not print."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise SourceUnavailable("a PDF needs Chromium, which is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="quarterdeck-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        page, printed = folder / "digest.html", folder / "digest.pdf"
        page.write_text(html, encoding="utf-8")
        alone = ("--no-sandbox",) if os.geteuid() == 0 else ()  # as root it does not start with its sandbox
        command = (program, *_FLAGS, *alone, f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={printed}",
                   page.as_uri())  # fmt: skip
        try:
            _run(command, folder, timeout_s=timeout_s)
            return printed.read_bytes()
        except subprocess.TimeoutExpired as error:
            raise SourceUnavailable(f"{program} did not print within {timeout_s:g} s") from error
        except OSError as error:
            raise SourceUnavailable(f"{program} printed nothing; run it once by hand to see why") from error


def _run(command: Sequence[str], folder: Path, *, timeout_s: float) -> None:
    """Run a program to its end. Its children end with it: they would write into the folder that is removed next."""
    nowhere = subprocess.DEVNULL  # a pipe stays open for as long as a child has it
    process = subprocess.Popen(
        command, cwd=folder, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
    )
    try:
        process.wait(timeout_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
