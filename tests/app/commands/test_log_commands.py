"""The commands that read the retrieval log: `drift` and `topics`."""

import csv
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from core.log.services import get_service
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line


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


@pytest.mark.deep
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
    assert "too few questions" in answer.err


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
    assert set(topics[0]) == {
        "cluster_id",
        "topic_id",
        "label",
        "keywords",
        "count",
        "share",
        "language",
        "sample_queries",
        "findings",
    }
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
        (("--input", "{folder}/commas.csv"), "has 1 field more than the header: put texts with commas in quotes"),
    ],
)
def test_wrong_topics_input_is_one_line(
    arguments: tuple[str, ...], named: str, questions: Path, store: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "commas.csv").write_text("text\nhow do I reset it\nhello, how do I reset it\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x93" * 100)
    filled = [each.format(questions=questions, folder=tmp_path) for each in arguments]
    assert named in only_line(quarterdeck("topics", *filled, "--database", url), 2)


@pytest.mark.slow
def test_more_clusters_than_queries_is_one_line(questions: Path, quarterdeck: Run) -> None:
    answer = quarterdeck("topics", "--input", questions, "--column", "question", "--clusters", "500", "--json")
    assert "clusters" in only_line(answer, 2)


def test_scores_of_a_file_are_imported_and_what_is_refused_is_said(
    store: Store, url: str, quarterdeck: Run, tmp_path: Path
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("answer,name,value\nq-1,feedback,1\nq-2,feedback,high\n")
    answer = quarterdeck("import-scores", str(path), "--map", "retrieval_id=answer", "--database", url, "--json")
    assert (answer.code, answer.json["stored"], answer.json["waiting"]) == (1, 1, 1)
    assert [(each["row"], each["field"]) for each in answer.json["refused"]] == [(2, "value")]


def test_a_service_s_answers_are_kept_once_somebody_says_so(store, url, quarterdeck):
    set_answers = ("services", "set", "answers", "--database", url, "--reason", "judged weekly")
    assert quarterdeck(*set_answers, "--keep-answers").code == 0
    assert get_service(store, "answers").keep_answers
    quarterdeck(*set_answers, "--zone", "Europe/Berlin")
    assert get_service(store, "answers").keep_answers
    quarterdeck(*set_answers, "--no-answers")
    assert not get_service(store, "answers").keep_answers


def log_days(store: Store, scope: Scope, level: float | None, *, first: int = 40, last: int = 1) -> None:
    """Write twenty questions on each of these days (ago); None is a search that found nothing."""
    now = datetime.now(UTC)
    scores = [None if level is None else level + 0.01 * (at % 5) for at in range(20)]
    rows = [
        Retrieval(now - timedelta(days=day, minutes=at), f"q{at}", score, scope=scope)
        for day in range(first, last - 1, -1)
        for at, score in enumerate(scores)
    ]
    append_retrievals(store, rows)


@pytest.mark.deep
def test_episodes_are_listed_in_the_order_of_their_calls_and_as_of_a_former_day(
    store: Store, url: str, quarterdeck: Run
) -> None:
    log_days(store, DEFAULT_SCOPE, 0.80, first=60, last=21)
    log_days(store, DEFAULT_SCOPE, 0.70, first=20, last=11)
    log_days(store, DEFAULT_SCOPE, 0.55, first=10)
    today = datetime.now(UTC).date()
    listed = quarterdeck("drift", "--database", url, "--episodes", "--json").json
    assert [set(each) for each in listed] == [{"kind", "changed_on", "called_on", "ended_on", "fall"}] * 2
    assert [(each["kind"], each["ended_on"], round(each["fall"], 2)) for each in listed] == [
        ("drop", None, -0.10), ("drop", None, -0.15),
    ]  # fmt: skip
    for each, ago in zip(listed, (20, 10), strict=True):
        assert abs(ago - (today - date.fromisoformat(each["changed_on"])).days) <= 1
        assert each["changed_on"] <= each["called_on"]
    former = ("--as-of", str(today - timedelta(days=13)))
    assert quarterdeck("drift", "--database", url, "--episodes", "--json", *former).json == [
        listed[0] | {"fall": pytest.approx(listed[0]["fall"], abs=0.02)}
    ]
    found = quarterdeck("drift", "--database", url, "--json", *former).json
    assert (found["status"], found["changed_on"]) == ("drifting", listed[0]["changed_on"])
    assert len(found["open_drops"]) == 1
    assert len(quarterdeck("drift", "--database", url, "--json").json["open_drops"]) == 2


def test_with_several_services_drift_and_topics_list_them_and_take_the_one_that_is_named(
    store: Store, url: str, quarterdeck: Run
) -> None:
    log_days(store, Scope("production", "answers"), 0.8)
    found = quarterdeck("drift", "--database", url, "--json").json
    assert (found["environment"], found["service"], found["status"]) == ("production", "answers", "stable")
    log_days(store, Scope("production", "search"), 0.5)
    for command in ("drift", "topics"):
        line = only_line(quarterdeck(command, "--database", url), 2)
        assert "production/answers, production/search" in line
    found = quarterdeck("drift", "--database", url, "--service", "search", "--json").json
    assert (found["service"], round(found["recent_avg_score"], 2)) == ("search", 0.52)
    assert (found["empty_share"], found["unscored_share"]) == (0, 0)


def test_searches_that_find_nothing_are_an_outage_with_their_share(store: Store, url: str, quarterdeck: Run) -> None:
    log_days(store, DEFAULT_SCOPE, 0.8, last=4)
    log_days(store, DEFAULT_SCOPE, None, first=3)
    found = quarterdeck("drift", "--database", url, "--json").json
    assert found["status"] == "outage"
    assert found["empty_share"] == pytest.approx(0.5, abs=0.08)
    assert quarterdeck("drift", "--database", url).out.startswith("outage: 100% of the searches of ")


def test_a_service_is_set_renamed_and_merged_by_commands_that_preview_first(
    store: Store, url: str, quarterdeck: Run
) -> None:
    log_days(store, DEFAULT_SCOPE, 0.8, last=4)
    log_days(store, Scope("production", "answers"), 0.8, first=3)
    of = ("--database", url, "--reason", "it has a name now")
    listed = quarterdeck("services", "list", "--database", url)
    assert "quarterdeck services merge default answers" in listed.err
    quarterdeck("services", "set", "answers", "--zone", "Europe/Berlin", "--dimension", "tenant", *of)
    assert "zone" in only_line(quarterdeck("services", "set", "answers", "--zone", "Nowhere", *of), 2)
    previewed = quarterdeck("services", "merge", "default", "answers", *of)
    assert "740 questions of" in previewed.out and "would be merged default into answers" in previewed.out
    assert quarterdeck("services", "merge", "default", "answers", "--yes", *of).code == 0
    rows = quarterdeck("services", "list", "--database", url, "--json").json
    assert [(row["service"], row["zone"], row["dimensions"]) for row in rows] == [
        ("answers", "Europe/Berlin", ["tenant"])
    ]
    assert quarterdeck("services", "rename", "answers", "replies", "--yes", *of).code == 0
    assert quarterdeck("drift", "--database", url, "--json").json["service"] == "replies"
