"""The command line: what each command prints, its JSON, and the one line and exit code of each fault."""

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from app import cli
from app.commands import common
from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.config import PROJECT
from core.flags.operations import create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import Demo

ACT = Act("tester", "set up")


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Answer]


@pytest.fixture
def quarterdeck(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs the command line in this process, as the console script does."""
    opened: list[Store] = []

    def open_store(*arguments: Any, **options: Any) -> Store:
        opened.append(Store(*arguments, **options))
        return opened[-1]

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["quarterdeck", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.run()
            code: Any = 0
        except SystemExit as stopped:
            code = stopped.code
        return Answer(int(code or 0), *capsys.readouterr())

    monkeypatch.setattr(common, "Store", open_store)  # a command leaves its connections to the end of its process
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    if "QUARTERDECK_HOME" not in os.environ:
        monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    yield run
    for store in opened:
        store.close()


@pytest.fixture
def flags(store: Store) -> Store:
    """A store with one flag that is rolled out to 20% and one that is off."""
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=20), ACT)
    create_flag(store, "use_hyde", boolean_flag(on=False), ACT)
    return store


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


def only_line(answer: Answer, code: int) -> str:
    """The one line that a failed command leaves on stderr."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 1, answer.err
    return answer.err.strip()


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


def test_the_real_program_lists_its_commands() -> None:
    program = Path(sys.executable).with_name("quarterdeck")
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "drift" in done.stdout


def test_the_real_program_answers_a_fault_with_one_line_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quarterdeck", "flags", "list", "--database", f"sqlite:///{tmp_path / 'no.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    line = only_line(Answer(done.returncode, done.stdout, done.stderr), 1)
    assert line.startswith(f"quarterdeck: No store at {tmp_path / 'no.db'}.")


def test_flags_list_says_how_each_flag_stands(flags: Store, url: str, quarterdeck: Run) -> None:
    lines = quarterdeck("flags", "list", "--database", url).out.splitlines()
    assert [line.split()[:3] for line in lines] == [["new_prompt_v3", "on", "20%"], ["use_hyde", "off", "version"]]
    rows = quarterdeck("flags", "list", "--database", url, "--json").json
    assert [(row["key"], row["version"]) for row in rows] == [("new_prompt_v3", 1), ("use_hyde", 1)]


def test_flags_list_of_a_new_store_says_how_to_get_some(store: Store, url: str, quarterdeck: Run) -> None:
    assert "flags import" in quarterdeck("flags", "list", "--database", url).out
    assert quarterdeck("flags", "list", "--database", url, "--json").json == []


def test_flags_set_changes_the_flag_and_records_who_and_why(flags: Store, url: str, quarterdeck: Run) -> None:
    said = quarterdeck(
        "flags", "set", "new_prompt_v3", "--rollout", "50", "--reason", "no complaints", "--database", url
    )
    assert (said.code, said.out) == (0, "new_prompt_v3 is on 50% (version 2)\n")
    assert rollout_pct(get_flag(flags, "production", "new_prompt_v3").definition) == 50
    newest = list_audit(flags, limit=1)[0]
    assert (newest.actor, newest.action, newest.target, newest.reason) == (
        "tester", "flag.update", "new_prompt_v3", "no complaints",
    )  # fmt: skip
    turned_off = quarterdeck("flags", "set", "new_prompt_v3", "--off", "--reason", "stop", "--database", url, "--json")
    assert turned_off.json["definition"]["state"] == "DISABLED"
    quarterdeck("flags", "set", "use_hyde", "--on", "--reason", "go", "--database", url)
    assert get_flag(flags, "production", "use_hyde").definition["state"] == "ENABLED"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("no_such", "--on", "--reason", "why"), "no flag 'no_such'"),
        (("use_hyde", "--rollout", "101", "--reason", "why"), "101"),
        (("use_hyde", "--rollout", "-1", "--reason", "why"), "-1"),
        (("use_hyde", "--rollout", "nan", "--reason", "why"), "nan"),
        (("use_hyde", "--rollout", "inf", "--reason", "why"), "inf"),
        (("use_hyde", "--rollout", "0.00001", "--reason", "why"), "1e-05"),
        (("use_hyde", "--on", "--reason", "  "), "reason"),
        (("use_hyde", "--reason", "why"), "--rollout"),
    ],
)
def test_a_wrong_flag_change_is_one_line_and_changes_nothing(
    arguments: tuple[str, ...], named: str, flags: Store, url: str, quarterdeck: Run
) -> None:
    line = only_line(quarterdeck("flags", "set", *arguments, "--database", url), 2)
    assert named in line
    assert get_flag(flags, "production", "use_hyde").version == 1
    assert len(list_audit(flags)) == 2


def test_a_flag_change_on_and_off_the_scale_at_once_changes_nothing(flags: Store, url: str, quarterdeck: Run) -> None:
    only_line(
        quarterdeck("flags", "set", "use_hyde", "--rollout", "500", "--on", "--reason", "w", "--database", url), 2
    )
    assert get_flag(flags, "production", "use_hyde").version == 1


@pytest.mark.parametrize("arguments", [("flags", "set", "x"), ("no-such-command",), ("drift", "--window-days", "0")])
def test_a_wrong_call_shows_the_usage_and_exits_with_2(arguments: tuple[str, ...], quarterdeck: Run) -> None:
    answer = quarterdeck(*arguments)
    assert answer.code == 2
    assert "Error:" in answer.err
    assert "Traceback" not in answer.err


def test_an_export_imports_into_another_store_as_the_same_flags(
    flags: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    exported = quarterdeck("flags", "export", "--database", url)
    file, other = tmp_path / "flags.json", f"sqlite:///{tmp_path / 'other.db'}"
    file.write_text(exported.out)
    said = quarterdeck("flags", "import", file, "--reason", "move", "--database", other, "--json")
    assert said.json == {"changed": ["new_prompt_v3", "use_hyde"]}
    assert quarterdeck("flags", "export", "--database", other).json == exported.json
    assert quarterdeck("flags", "import", file, "--database", other, "--json").json == {"changed": []}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("not json", "JSON"),
        ("[]", "flags"),
        ('{"flags": {}}', "flags"),
        (
            '{"flags": {"good": {"state": "ENABLED", "variants": {"on": true}, "defaultVariant": "on"}, "bad": 7}}',
            "bad",
        ),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_import_is_one_line_and_imports_nothing(
    content: str | None, named: str, store: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    file = tmp_path / "flags.json"
    if content is not None:
        file.write_text(content)
    assert named in only_line(quarterdeck("flags", "import", file, "--database", url), 2)
    assert list_audit(store) == ()


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


@pytest.fixture
def lab(store: Store) -> Store:
    """The lab by hand: 100 good queries, all stamped 15 days ago, and 50 bad ones within the last seven days."""
    rng, now = random.Random(7), datetime.now(UTC)
    good = [
        Retrieval(now - timedelta(days=15), f"how do I size the mempool {at}", rng.uniform(0.75, 0.90))
        for at in range(100)
    ]
    bad = [
        Retrieval(now - timedelta(hours=rng.uniform(0, 140)), f"what is a vpp node {at}", rng.uniform(0.20, 0.40))
        for at in range(50)
    ]
    append_retrievals(store, good + bad)
    return store


def test_the_lab_by_hand_is_called_drifting(lab: Store, url: str, quarterdeck: Run) -> None:
    found = quarterdeck("drift", "--database", url, "--json").json
    with lab.read() as connection:
        scores = [score for (score,) in connection.exec_driver_sql("SELECT score FROM retrievals ORDER BY id")]
    good, bad = sum(scores[:100]) / 100, sum(scores[100:]) / 50
    assert found["status"] == "drifting"
    assert found["baseline_avg_score"] == pytest.approx(good, abs=0.005)
    assert found["recent_avg_score"] == pytest.approx(bad, abs=0.005)
    assert found["delta"] == pytest.approx(bad - good, abs=0.01)
    assert -0.6 < found["delta"] < -0.4
    assert "re-index" in found["action"]
    assert quarterdeck("drift", "--database", url).out.startswith("drifting: ")


def test_a_steady_log_is_not_called_drifting(store: Store, url: str, quarterdeck: Run) -> None:
    rng, now = random.Random(8), datetime.now(UTC)
    append_retrievals(
        store,
        [
            Retrieval(now - timedelta(days=day, minutes=at), f"query {at}", rng.uniform(0.75, 0.90))
            for day in range(30)
            for at in range(20)
        ],
    )
    found = quarterdeck("drift", "--database", url, "--json").json
    assert found["status"] == "stable"
    assert abs(found["delta"]) < 0.05


def test_an_empty_log_is_too_little_data_and_no_error(store: Store, url: str, quarterdeck: Run) -> None:
    answer = quarterdeck("drift", "--database", url, "--json")
    assert (answer.code, answer.json["status"], answer.json["delta"]) == (0, "insufficient_data", None)


@pytest.mark.deep
def test_fewer_than_ten_low_queries_are_too_little_to_cluster(store: Store, url: str, quarterdeck: Run) -> None:
    now = datetime.now(UTC)
    rows = [Retrieval(now - timedelta(days=15), f"good {at}", 0.8) for at in range(100)]
    rows += [Retrieval(now - timedelta(days=1), f"bad {at}", 0.3) for at in range(9)]
    append_retrievals(store, rows)
    answer = quarterdeck("topics", "--database", url, "--json")
    assert (answer.code, answer.json) == (0, [])
    assert "too little" in answer.err


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A CSV of 36 questions about three things, with a column to keep."""
    subjects = ("hugepages on the NUMA node", "the salary of a nurse in Norway", "baking sourdough bread at home")
    forms = ("what about", "how much is", "why is", "tell me about", "is there", "who knows", "when is", "where is")
    forms += ("explain", "show me", "describe", "help with")
    file = tmp_path / "questions.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["number", "question"])
        rows = [f"{form} {subject}" for form in forms for subject in subjects]
        writer.writerows(enumerate(rows))
    return file


@pytest.mark.slow
def test_topics_of_a_csv_adds_a_column_cluster(questions: Path, quarterdeck: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    answer = quarterdeck(
        "topics", "--input", questions, "--column", "question", "--clusters", "3", "--assignments", out, "--json"
    )
    topics = answer.json
    assert [topic["count"] for topic in topics] == [12, 12, 12]
    assert set(topics[0]) == {"cluster_id", "label", "count", "share", "sample_queries"}
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["number", "question", "cluster"]
    assert [row["number"] for row in rows] == [str(at) for at in range(36)]
    for word in ("hugepages", "nurse", "sourdough"):
        assert len({row["cluster"] for row in rows if word in row["question"]}) == 1
    assert {row["cluster"] for row in rows} == {str(topic["cluster_id"]) for topic in topics}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--clusters", "0"), "clusters"),
        (("--clusters", "-3"), "clusters"),
        (("--clusters", "many"), "'many'"),
        (("--input", "{questions}", "--column", "text"), "no column 'text'; it has: number, question"),
        (("--input", "{folder}/none.csv"), "none.csv"),
        (("--input", "{folder}/empty.csv"), "holds no rows"),
        (("--input", "{folder}/header.csv"), "holds no rows"),
        (("--input", "{folder}/binary.csv"), "binary.csv"),
    ],
)
def test_wrong_topics_input_is_one_line(
    arguments: tuple[str, ...], named: str, questions: Path, store: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x93" * 100)
    filled = [each.format(questions=questions, folder=tmp_path) for each in arguments]
    assert named in only_line(quarterdeck("topics", *filled, "--database", url), 2)


@pytest.mark.slow
def test_more_clusters_than_queries_is_one_line(questions: Path, quarterdeck: Run) -> None:
    answer = quarterdeck("topics", "--input", questions, "--column", "question", "--clusters", "500", "--json")
    assert "clusters" in only_line(answer, 2)


def test_audit_list_shows_the_newest_and_verify_finds_a_changed_entry(flags: Store, url: str, quarterdeck: Run) -> None:
    rows = quarterdeck("audit", "list", "--limit", "1", "--database", url, "--json").json
    assert [(row["actor"], row["target"]) for row in rows] == [("tester", "use_hyde")]
    assert quarterdeck("audit", "verify", "--database", url, "--json").json == {"broken": []}
    with flags.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET reason = 'forged' WHERE id = 1")
    answer = quarterdeck("audit", "verify", "--database", url, "--json")
    assert (answer.code, answer.json) == (1, {"broken": [1]})


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
    assert "holds data that no demo put there" in only_line(quarterdeck("demo", "--database", url), 1)


def test_an_index_of_a_folder_without_pages_is_one_line(quarterdeck: Run, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    line = only_line(quarterdeck("index", "build", tmp_path / "pages", tmp_path / "out"), 2)
    assert f"{tmp_path / 'pages'} holds no" in line
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
        {"who": "ada", "role": "admin", "environment": "*"},
        {"who": "group:rag", "role": "editor", "environment": "staging"},
    ]
    assert quarterdeck("roles", "revoke", "ADA", "--reason", "left").out == (
        "ADA holds no role everywhere any more (audit entry 3)\n"
    )
    gone = quarterdeck("roles", "revoke", "ada", "--reason", "again")
    assert (gone.code, gone.err) == (
        2, "quarterdeck: role: 'ada' holds none in '*'; see them with: quarterdeck roles list\n"
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


def test_an_environment_has_its_own_flags_and_is_named_by_an_option(
    quarterdeck: Run, store: Store, url: str, tmp_path: Path
) -> None:
    on, there = ("--database", url), ("--environment", "staging")
    create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
    assert quarterdeck("environments", "add", "staging", "--reason", "tried there", *on).code == 0
    assert quarterdeck("environments", "list", *on).out == "production\nstaging\n"
    assert quarterdeck("environments", "add", "staging", "--reason", "again", *on).code == 1
    assert (
        "no flag 'use_hyde' in staging"
        in quarterdeck("flags", "set", "use_hyde", "--off", "--reason", "x", *there, *on).err
    )
    exported = tmp_path / "flags.json"
    exported.write_text(quarterdeck("flags", "export", *on).out)
    assert quarterdeck("flags", "import", exported, *there, *on).code == 0
    assert quarterdeck("flags", "set", "use_hyde", "--off", "--reason", "x", *there, *on).code == 0
    states = {name: get_flag(store, name, "use_hyde").definition["state"] for name in ("production", "staging")}
    assert states == {"production": "ENABLED", "staging": "DISABLED"}
    bad = quarterdeck("flags", "list", "--environment", "../x", *on)
    assert (bad.code, bad.err.startswith("quarterdeck: environment: must be 1 to 64 letters")) == (2, True)


def test_a_rollout_in_steps_is_planned_listed_paused_and_cancelled(quarterdeck: Run, url: str, store: Store) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), ACT)
    where = ("--database", url)
    added = quarterdeck(
        "flags", "schedule", "add", "use_hyde", "--steps", "5,25,100", "--hold", "2d", "--reason", "why", *where
    )
    assert added.out.startswith("schedule 1 of use_hyde: 5% → 25% → 100%; 5% ")
    assert quarterdeck("flags", "schedule", "list", "--json", *where).json[0]["steps"][0]["hold_s"] == 172_800
    for verb, done in (("pause", "paused"), ("resume", "resumed"), ("cancel", "cancelled")):
        told = quarterdeck("flags", "schedule", verb, "1", "--reason", "look first", *where)
        assert told.out.startswith(f"schedule 1 of use_hyde is {done} (audit entry "), told
    assert quarterdeck("flags", "schedule", "list", *where).out == "nothing is planned\n"
    assert [entry.action for entry in list_audit(store, AuditFilter(target="use_hyde"))] == [
        "schedule.cancel", "schedule.resume", "schedule.pause", "schedule.create", "flag.create",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give --steps P,P,…, --on or --off"),
        (("--steps", "5,many"), "steps: give percentages"),
        (("--steps", "5", "--off"), "--off has no steps"),
        (("--steps", "5", "--hold", "a day"), "hold: give a time like 30m"),
        (("--off", "--at", "tomorrow"), "at: give a time like"),
        (("--off", "--at", "2020-01-01"), "starts: give a time from now on"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line_and_exit_code_2(
    options: tuple[str, ...], said: str, quarterdeck: Run, url: str, store: Store
) -> None:
    create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
    told = quarterdeck("flags", "schedule", "add", "use_hyde", *options, "--reason", "why", "--database", url)
    assert (told.code, told.out) == (2, "")
    assert said in told.err


def test_an_export_of_another_tool_is_taken_and_what_has_no_counterpart_gets_a_line(
    quarterdeck: Run, store: Store, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "growthbook.json"
    rules = {"good": [{"force": True, "coverage": 0.2}], "bad": [{"force": True, "namespace": ["n", 0, 1]}]}
    features = {key: {"defaultValue": False, "rules": each} for key, each in rules.items()}
    file.write_text(json.dumps({"features": features}))
    said = quarterdeck("flags", "import", file, "--environment", "staging", "--database", url)
    assert said.out.splitlines() == [
        "1 flags changed: good",
        "left out: bad: rule 1: it is in a namespace",
        "Rollouts keep their shares but not their users: GrowthBook draws them by another hash.",
    ]
    assert rollout_pct(get_flag(store, "staging", "good").definition) == 20
    missing = quarterdeck("flags", "import", tmp_path / "none.json", "--database", url)
    assert (missing.code, "none.json cannot be read" in missing.err) == (2, True)
