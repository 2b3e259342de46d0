"""The command line: what each command prints, its JSON, and the one line and exit code of each error."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from app import cli
from core.config import PROJECT
from quarterdeck.store import Store
from tests.app.commands.running import Answer, Run, only_line
from tests.conftest import Demo


def list_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name, child in command.commands.items():
                walk(child, (*path, name))
        else:
            found.append(path)

    walk(cli.main, ())
    return found


def test_the_commands_are_those_that_the_readme_promises() -> None:
    promised = {
        ("demo",), ("serve",), ("drift",), ("topics",), ("corpus", "versions"), ("corpus", "files"), ("corpus", "diff"),
        ("flags", "list"), ("flags", "set"), ("flags", "export"), ("flags", "import"),
    }  # fmt: skip
    assert promised <= set(list_commands())


@pytest.mark.parametrize("command", list_commands(), ids=" ".join)
def test_each_command_has_an_example_and_takes_json_and_a_database(command: tuple[str, ...], quarterdeck: Run) -> None:
    shown = quarterdeck(*command, "--help")
    assert shown.code == 0
    assert f"Example: quarterdeck {' '.join(command)}" in " ".join(shown.out.split())
    assert "--json" in shown.out
    assert "--database URL" in shown.out


@pytest.mark.deep
def test_the_real_program_lists_its_commands() -> None:
    program = Path(sys.executable).with_name("quarterdeck")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "drift" in done.stdout


@pytest.mark.deep
def test_the_real_program_answers_a_fault_with_one_line_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quarterdeck", "flags", "list", "--database", f"sqlite:///{tmp_path / 'no.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    line = only_line(Answer(done.returncode, done.stdout, done.stderr), 1)
    assert line.startswith(f"quarterdeck: No store at {tmp_path / 'no.db'}.")


@pytest.mark.parametrize("arguments", [("flags", "set", "x"), ("no-such-command",), ("drift", "--window-days", "0")])
def test_a_wrong_call_shows_the_usage_and_exits_with_2(arguments: tuple[str, ...], quarterdeck: Run) -> None:
    answer = quarterdeck(*arguments)
    assert answer.code == 2
    assert "Error:" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "command", [("drift",), ("topics",), ("flags", "list"), ("audit", "list"), ("audit", "verify")]
)
def test_a_missing_store_is_one_line_that_says_where_and_what_to_do(
    command: tuple[str, ...], quarterdeck: Run, tmp_path: Path
) -> None:
    line = only_line(quarterdeck(*command, "--database", f"sqlite:///{tmp_path / 'no.db'}"), 1)
    assert str(tmp_path / "no.db") in line
    assert "quarterdeck demo" in line
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "sqlite://"])
def test_a_wrong_database_address_is_one_line(url: str, quarterdeck: Run) -> None:
    assert "database URL" in only_line(quarterdeck("drift", "--database", url), 2)


def test_a_password_in_the_address_is_not_printed(quarterdeck: Run) -> None:
    line = only_line(quarterdeck("drift", "--database", "postgresql://deck:s3cret@127.0.0.1:1/deck"), 1)
    assert "s3cret" not in line


def test_audit_list_shows_the_newest_and_verify_finds_a_changed_entry(flags: Store, url: str, quarterdeck: Run) -> None:
    rows = quarterdeck("audit", "list", "--limit", "1", "--database", url, "--json").json
    assert [(row["actor"], row["target"]) for row in rows] == [("tester", "use_hyde")]
    assert quarterdeck("audit", "verify", "--database", url, "--json").json["broken"] == []
    with flags.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET reason = 'forged' WHERE id = 1")
    answer = quarterdeck("audit", "verify", "--database", url, "--json")
    assert (answer.code, answer.json["broken"]) == (1, [1])


@pytest.mark.slow
def test_corpus_commands_list_versions_files_and_differences(as_demo: Demo, quarterdeck: Run) -> None:
    versions = quarterdeck("corpus", "versions", "--json").json
    assert [version["name"] for version in versions] == ["v2", "v1"]
    files = quarterdeck("corpus", "files", "v1", "--json").json
    written = {path.name for path in (PROJECT / "data/demo/corpus/v1").glob("*.md")}
    assert {Path(file["path"]).name for file in files} == written
    changes = quarterdeck("corpus", "diff", "v1", "v2", "--json").json["changes"]
    assert {change["kind"] for change in changes} == {"added", "modified", "renamed"}
    assert len(quarterdeck("corpus", "diff", "v1", "v2").out.splitlines()) == len(changes)
    assert quarterdeck("corpus", "diff", "v1", "v1").out == "no file differs\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [("files", "v99"), ("diff", "v1", "v99"), ("files", "--", "--upload-pack=x")])
def test_an_unknown_revision_is_one_line(command: tuple[str, ...], as_demo: Demo, quarterdeck: Run) -> None:
    assert command[-1] in only_line(quarterdeck("corpus", *command), 2)


def test_a_missing_corpus_is_one_line(quarterdeck: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_CORPUS_REPO", str(tmp_path / "no-corpus"))
    assert str(tmp_path / "no-corpus") in only_line(quarterdeck("corpus", "versions"), 1)


@pytest.mark.slow
def test_building_the_demo_over_foreign_data_is_refused_in_one_line(lab: Store, url: str, quarterdeck: Run) -> None:
    assert "has data that is not the demo's" in only_line(quarterdeck("demo", "--database", url), 1)


def test_an_index_of_a_folder_without_pages_is_one_line(quarterdeck: Run, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    line = only_line(quarterdeck("index", "build", tmp_path / "pages", tmp_path / "out"), 2)
    assert f"{tmp_path / 'pages'} has no" in line
    assert not (tmp_path / "out").exists()


def test_a_wrong_setting_is_one_line(quarterdeck: Run, monkeypatch: pytest.MonkeyPatch, url: str, store: Store) -> None:
    monkeypatch.setenv("QUARTERDECK_LOW_SCORE", "high")
    assert "QUARTERDECK_LOW_SCORE" in only_line(quarterdeck("drift", "--database", url), 2)


def test_roles_are_granted_listed_and_revoked(quarterdeck: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    granted = quarterdeck("roles", "grant", "group:rag", "editor", "--in", "staging", "--reason", "they try things")
    assert granted == Answer(0, "group:rag is editor in staging (audit entry 1)\n", "")
    assert quarterdeck("roles", "grant", "ada", "admin", "--reason", "runs it").code == 0
    assert quarterdeck("roles", "list", "--json").json == [
        {"who": "ada", "role": "admin", "environment": "*", "questions": True},
        {"who": "group:rag", "role": "editor", "environment": "staging", "questions": True},
    ]
    assert quarterdeck("roles", "revoke", "ADA", "--reason", "left").out == (
        "ADA holds no role everywhere any more (audit entry 3)\n"
    )
    gone = quarterdeck("roles", "revoke", "ada", "--reason", "again")
    assert (gone.code, gone.err) == (
        2, "quarterdeck: role: 'ada' has none in '*'; to list all: quarterdeck roles list\n"
    )  # fmt: skip


def test_a_token_is_printed_once_listed_without_its_secret_and_revoked(
    quarterdeck: Run, store: Store, url: str
) -> None:
    on = ("--database", url)
    made = quarterdeck(
        "tokens", "create", "search", "--scope", "evaluate", "--scope", "ingest", "--expires", "90",
        "--environment", "staging", "--reason", "OFREP for search", *on,
    )  # fmt: skip
    secret = made.out.strip()
    assert (made.code, secret[:3]) == (0, "qd_")
    (listed,) = quarterdeck("tokens", "list", "--json", *on).json
    assert (listed["scopes"], listed["environment"], listed["state"]) == (["evaluate", "ingest"], "staging", "active")
    assert secret not in quarterdeck("tokens", "list", *on).out
    assert quarterdeck("tokens", "revoke", "search", "--reason", "leaked", *on).out.startswith("search is revoked")
    assert quarterdeck("tokens", "list", "--json", *on).json[0]["state"] == "revoked"
    missing = quarterdeck("tokens", "revoke", "other", "--reason", "x", *on)
    assert (missing.code, missing.err) == (
        2, "quarterdeck: token: there is no token 'other'; there are: search\n",
    )  # fmt: skip
    assert quarterdeck("tokens", "create", "x", "--scope", "all", "--reason", "x", *on).code == 2
