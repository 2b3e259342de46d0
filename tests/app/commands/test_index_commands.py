"""The commands `quarterdeck index ...` on a copy of the demo: an index from build to removal."""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from app import cli
from core.config import PROJECT
from tests.conftest import Demo, copy_home

CHAT = ("--service", "docs-chat")

pytestmark = pytest.mark.slow


@pytest.fixture
def quarterdeck(demo: Demo, tmp_path: Path, monkeypatch, capsys):
    """Runs the command line on a copy of the demo; returns exit code, output and error output."""
    home = tmp_path / "home"
    copy_home(demo.config.home, home)
    with closing(
        sqlite3.connect(home / "quarterdeck.db", isolation_level=None)
    ) as database:  # else it would use the original's folder
        database.execute("UPDATE indexes SET location = ?", (str(home / "indexes"),))
    monkeypatch.setenv("QUARTERDECK_HOME", str(home))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    monkeypatch.setenv("QUARTERDECK_INDEX_URI", str(home / "indexes"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["quarterdeck", "index", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.run()
        except SystemExit as stopped:
            code = stopped.code
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.mark.deep
def test_an_index_is_predicted_built_probed_swapped_rolled_back_and_measured(quarterdeck, tmp_path):
    code, out, _ = quarterdeck("predict", "v2", *CHAT, "--json")
    predicted = json.loads(out)
    assert (code, predicted["live"], predicted["target"]) == (0, "docs-v1", "v2")
    assert predicted["lifted_share"] > 0.5
    assert "vpp" in quarterdeck("predict", "workspace", *CHAT)[1]

    code, out, _ = quarterdeck("build", "v2", "--json")
    built = json.loads(out)
    assert (code, built["embedded"], built["problems"]) == (0, 0, [])
    name = built["index"]["name"]
    assert f"{name} already exists" in quarterdeck("build", "v2")[1]

    golden = PROJECT / "data" / "demo" / "cases" / "qa.jsonl"
    code, out, _ = quarterdeck("probe", name, "--golden", golden)
    assert (code, out.count("ok  "), out.count("FAIL")) == (0, 5, 0)

    code, out, _ = quarterdeck("swap", name, "--golden", golden, "--reason", "covers VPP")
    assert (code, out) == (0, f"default points to {name}, was docs-v1\n")
    assert f"{name:<32}" in quarterdeck("list")[1]
    assert [row["aliases"] for row in json.loads(quarterdeck("list", "--json")[1])] == [["default"], [], []]
    assert json.loads(quarterdeck("predict", "v2", "--measure", *CHAT, "--json")[1])["largest_error"] < 0.02
    assert "predicted" in quarterdeck("predict", "v2", "--measure", *CHAT)[1]

    code, out, _ = quarterdeck("rollback", "--reason", "answers got worse")
    assert (code, out) == (0, "default points to docs-v1 again\n")
    code, _, said = quarterdeck("rollback", "--reason", "further")
    assert (code, said.count("\n")) == (2, 1)

    code, out, _ = quarterdeck("gc", "--keep", "0")
    assert (code, out) == (0, f"removed docs-v2\nkept docs-v1: live\nkept {name}: used recently\n")


@pytest.mark.deep
def test_a_document_that_cannot_be_read_is_named_and_the_rest_is_built(quarterdeck, tmp_path):
    folder = tmp_path / "drafts"
    folder.mkdir()
    (folder / "vpp.md").write_text("# VPP\n\nA packet processor.")
    (folder / "scan.pdf").write_bytes(b"no pdf")
    code, out, said = quarterdeck("build", folder, "--name", "drafts")
    assert (code, "drafts is built: 1 chunks of 1 documents" in out) == (0, True)
    assert "left out: scan.pdf: cannot be read as pdf" in said
    code, out, said = quarterdeck("swap", "drafts", "--reason", "hurry")
    assert code == 2
    assert "drafts did not pass its probe" in said
    assert quarterdeck("swap", "drafts", "--reason", "hurry", "--unprobed")[0] == 0


@pytest.mark.deep
def test_mistakes_are_one_line(quarterdeck, tmp_path):
    for arguments, problem in [
        (("build", "v9"), "v9"),
        (("probe", "docs-v9"), "no index 'docs-v9' is registered"),
        (("probe", "docs-v2", "--golden", tmp_path / "none.jsonl"), "golden: "),
        (("predict", "v2", *CHAT, "--alias", "other"), "'other' points to no index yet"),
        (("predict", "v7", *CHAT, "--measure"), "corpus version 'v7' has none"),
    ]:
        code, _, said = quarterdeck(*arguments)
        assert (code, said.count("\n")) == (2, 1), said
        assert problem in said
