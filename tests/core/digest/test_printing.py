"""Printing a page to PDF with the Chromium that is installed."""

import io
import stat
import tempfile
from pathlib import Path

import pytest
from pypdf import PdfReader

from core.digest.printing import print_pdf
from core.errors import SourceUnavailable


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.deep
def test_a_page_is_printed_with_its_text_and_nothing_around_it() -> None:
    printed = print_pdf("<!doctype html><meta charset=utf-8><title>t</title><h1>Score fell to 0.52 ä</h1>")
    [page] = PdfReader(io.BytesIO(printed)).pages
    assert page.extract_text().strip() == "Score fell to 0.52 ä"


def test_without_chromium_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="^a PDF needs Chromium, which is not installed: apt-get install"):
        print_pdf("<p>x</p>")


@pytest.mark.parametrize(("script", "said"), [("exit 1", "printed nothing"), ("exec sleep 60", "did not print within")])
def test_a_chromium_that_does_not_print_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, said: str
) -> None:
    program = tmp_path / "chromium"
    program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceUnavailable, match=said):
        print_pdf("<p>x</p>", timeout_s=0.5 if "sleep" in script else 30)


@pytest.mark.deep
@pytest.mark.parametrize("ending", ["sleep 60", "exit 1"])
def test_nothing_is_left_of_a_chromium_that_does_not_print(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    """Its children neither go on nor keep what they write."""
    program, started = tmp_path / "bin" / "chromium", tmp_path / "child"
    program.parent.mkdir()
    writes = "while :; do mkdir -p profile; echo x > profile/$RANDOM; sleep 0.01; done"
    child = f"echo $$ > {started}.part; mv {started}.part {started}; {writes}"
    program.write_text(
        f"#!/bin/bash\nPATH=/usr/bin:/bin\nbash -c '{child}' &\nuntil [ -e {started} ]; do sleep 0.01; done\n{ending}\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SourceUnavailable, match="did not print|printed nothing"):
        print_pdf("<p>x</p>", timeout_s=5 if "sleep" in ending else 60)
    stat_of_child = Path(f"/proc/{started.read_text().strip()}/stat")
    assert not stat_of_child.exists() or stat_of_child.read_text().rpartition(")")[2].split()[0] in "ZX"
    assert list(tmp_path.glob("quarterdeck-pdf-*")) == []
