"""The docs site builds strictly, and has every page as Markdown too, with a list of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from core.config import PROJECT

PROGRAM = PROJECT / ".venv-docs" / "bin" / "mkdocs"


@pytest.mark.slow
@pytest.mark.deep
def test_every_page_is_there_as_markdown_and_in_the_list_for_programs(tmp_path: Path) -> None:
    if not PROGRAM.exists():
        pytest.skip("the docs' own environment is not there: make docs")
    done = subprocess.run(
        [PROGRAM, "build", "--strict", "--quiet", "--site-dir", tmp_path], cwd=PROJECT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": os.defpath}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    listed = re.findall(r"^- \[.+\]\((.+)\)$", (tmp_path / "llms.txt").read_text(), re.MULTILINE)
    assert {"index.md", "api.md", "pages/drift.md", "security-policy.md"} <= set(listed)
    for name in listed:
        assert (tmp_path / name).read_text().lstrip().startswith("#"), name
    docs = {path.relative_to(PROJECT / "docs").as_posix() for path in (PROJECT / "docs").rglob("*.md")}
    assert {name for name in docs if not (tmp_path / name).is_file()} == set()
