"""What end users type into a search must not run in the spreadsheet of whoever downloads a CSV."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser

from app import ui
from app.cli import main
from core.audit.acts import Act
from core.audit.files import write_csv
from core.audit.trail import list_audit
from core.flags.operations import create_flag
from core.safety.spreadsheets import write_cell
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.attacks.conftest import attacking, fill_home
from tests.browser.conftest import PATIENCE_MS, Visit

FORMULAS = (
    '=HYPERLINK("http://evil.example";"open")', "=cmd|' /C calc'!A0", "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)",
    "\t=1+1", "\r=1+1", "\n=1+1", "\uff1d1+1", "-", "--5", "+1-2", "-1.2.3",
    "@a\r=1+1", "-a\n=1+1",
)  # fmt: skip


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_formula_is_text(cell: str) -> None:
    assert write_cell(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell", ["-0.5", "+3", "-12", "0.5", -0.5, 3, None, "what is = mbuf", "'=1", "", datetime.now(UTC)]
)
def test_numbers_and_other_text_stay(cell: object) -> None:
    assert write_cell(cell) == cell


def test_a_table_and_its_names_hold_no_formula() -> None:
    rows = [{"=name": cell, "score": -0.5} for cell in FORMULAS]
    header, *lines = csv.reader(io.StringIO(ui.write_csv(rows), newline=""))
    assert header == ["'=name", "score"]
    assert [line[0] for line in lines] == [f"'{cell}" for cell in FORMULAS]
    assert {line[1] for line in lines} == {"-0.5"}


@pytest.mark.sqlite_only("it is about a file")
def test_a_file_of_audit_entries_holds_no_formula(store: Store) -> None:
    create_flag(store, "=flag", boolean_flag(on=True), Act("@ada", "=1+1"))
    (row,) = csv.DictReader(io.StringIO(write_csv(list_audit(store))))
    assert (row["actor"], row["reason"], row["target"]) == ("'@ada", "'=1+1", "'=flag")
    assert row["after"].startswith("{")


@pytest.mark.slow
def test_the_assignments_of_topics_hold_no_formula(tmp_path: Path) -> None:
    questions = ["=1+1", "+1+1", "@x", "how to pay", "where to pay", "how to pay a bill", "pay bills", "pay my bill"]
    (tmp_path / "asked.csv").write_text("question,=n\n" + "".join(f"{each},-1\n" for each in questions))
    arguments = ["topics", "--input", str(tmp_path / "asked.csv"), "--column", "question"]
    done = CliRunner().invoke(main, [*arguments, "--assignments", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows][:4] == ["'=1+1", "'+1+1", "'@x", "how to pay"]
    assert {row["'=n"] for row in rows} == {"-1"}


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.browser
def test_what_a_page_offers_holds_no_formula(tmp_path: Path, chromium: Browser) -> None:
    fill_home(tmp_path / "home")
    store = Store(f"sqlite:///{tmp_path / 'home' / 'quarterdeck.db'}")
    create_flag(store, "odd", boolean_flag(on=True), Act("ada", "=1+1"))
    store.close()
    with attacking(tmp_path / "home") as running:
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE_MS)
        Visit(page, running.address, []).open("audit")
        with page.expect_download() as downloading:
            page.get_by_text("as CSV", exact=False).first.click()
        text = Path(downloading.value.path()).read_text()
        page.close()
    assert "'=1+1" in text
    assert ",=1+1" not in text
