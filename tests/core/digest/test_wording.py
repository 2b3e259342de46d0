"""The lines of a digest, from literal reports."""

from dataclasses import replace
from datetime import UTC, date, datetime

from core.causes.timeline import ChangeKind, TimelineChange
from core.digest.periods import DigestPeriod
from core.digest.wording import (
    DatedDecision,
    NewTopic,
    PeriodFigures,
    word_decided,
    word_episodes,
    word_feed_outages,
    word_figures,
    word_ledger,
    word_new_topics,
    word_shipped,
    word_spending,
    word_waiting,
)
from core.drift.episodes import DatedEpisode, EpisodeKind
from core.ledger.effects import MeasuredEffect
from core.ledger.entries import EffectPrediction, EntryStatus, LedgerEntry, calibrate
from core.log.values import States
from core.todo.items import Todo

WEEK = DigestPeriod(date(2026, 11, 23), date(2026, 11, 29))
NOW = PeriodFigures(States(scored=98, empty=2), 0.5123, 410.4, 1210.0, 0.91, None, cost_usd=1.25, priced=50)
BEFORE = PeriodFigures(States(scored=80), 0.6, None, None, 0.92, None, cost_usd=1.0, priced=40)


def texts(lines) -> list[str]:
    return [line.text for line in lines]


def change(kind: ChangeKind = ChangeKind.FLAG, *, day: int = 24, **given) -> TimelineChange:
    values = {"ts": datetime(2026, 11, day, 9, tzinfo=UTC), "kind": kind, "target": "x", "summary": "x switched on",
              "actor": "ada", "reason": "it works.", "entry_id": 7}  # fmt: skip
    return TimelineChange(**(values | given))


def test_each_figure_stands_beside_that_of_the_days_before():
    assert texts(word_figures(NOW, BEFORE, WEEK)) == [
        "100 questions (before: 80); mean score 0.51 (before: 0.60); found nothing 2.0% (before: 0.0%).",
        "Median latency 410 ms; 95th percentile 1,210 ms; faithfulness 0.91 (before: 0.92).",
    ]


def test_days_without_a_question_are_one_line():
    (line,) = word_figures(PeriodFigures(), BEFORE, WEEK)
    assert (line.text, line.page) == ("No question came in these days (before: 80).", "questions")


def test_a_drop_is_told_when_it_is_noticed_and_when_it_is_over():
    drop = DatedEpisode(EpisodeKind.DROP, date(2026, 11, 20), date(2026, 11, 23), None, -0.0812)
    assert texts(word_episodes([drop], WEEK)) == [
        "A drop of 0.08 that began on 20 Nov 2026 was noticed on 23 Nov 2026."
    ]
    over = replace(drop, called_on=date(2026, 11, 22), ended_on=date(2026, 11, 29))
    assert texts(word_episodes([over], WEEK)) == ["A drop of 0.08 that began on 20 Nov 2026 is over since 29 Nov 2026."]
    assert texts(word_episodes([replace(over, ended_on=date(2026, 11, 30))], WEEK)) == []
    outage = replace(drop, kind=EpisodeKind.OUTAGE, fall=None)
    assert texts(word_episodes([outage], WEEK)) == ["An outage that began on 20 Nov 2026 was noticed on 23 Nov 2026."]


def test_what_reached_users_was_shipped_newest_first():
    changes = [
        change(day=23, summary="x created at 5%"),
        change(day=24, summary="built", reach=0.0),
        change(ChangeKind.INDEX, day=29, summary="default swapped from a to b", actor="", reason="", entry_id=None),
        change(day=30, summary="too late"),
        change(ChangeKind.EXPERIMENT, summary="experiment e decided"),
        change(ChangeKind.FEED, summary="feed outage"),
    ]
    lines = list(word_shipped(changes, WEEK))
    assert texts(lines) == ["29 Nov: default swapped from a to b.", "23 Nov: x created at 5% (ada: it works)."]
    assert [(line.page, line.filters) for line in lines] == [("overview", ()), ("audit", (("entry", "7"),))]
    assert texts(word_feed_outages(changes, WEEK)) == ["24 Nov: feed outage (ada: it works)."]


def test_decisions_about_topics_and_experiments_are_told_with_who_and_why():
    lines = list(
        word_decided(
            [DatedDecision("t-1", "vpp tunnels", "ada", "asked often", "planned", "lin")],
            [change(ChangeKind.EXPERIMENT, summary="experiment e decided", reach=0.0), change()],
            WEEK,
        )
    )
    assert texts(lines) == [
        "Gap “vpp tunnels”: planned, lin (ada: asked often).", "24 Nov: experiment e decided (ada: it works).",
    ]  # fmt: skip
    assert lines[0].filters == (("topic", "t-1"),)


def test_a_long_reason_is_cut():
    (line,) = word_shipped([change(reason="w" * 500)], WEEK)
    assert line.text == f"24 Nov: x switched on (ada: {'w' * 119}…)."


def entry(day: int, month: int = 11, **given) -> LedgerEntry:
    values = {"change_id": "7", "at": datetime(2026, month, day, 9, tzinfo=UTC), "kind": "flag", "target": "x",
              "summary": "x switched on", "actor": "ada", "metric": "score",
              "predicted": EffectPrediction(0.02, 0.01, 0.03), "measured": None,
              "status": EntryStatus.TOO_EARLY}  # fmt: skip
    return LedgerEntry(**(values | given))


def test_effects_measured_in_the_period_and_predictions_that_wait_are_told_with_the_calibration():
    measured = MeasuredEffect(0.021, 0.011, 0.031, 28, 14)
    settled = entry(10, measured=measured, status=EntryStatus.AS_PREDICTED, is_over=True)
    entries = [entry(24), settled, entry(9, 10, is_over=True), entry(25, predicted=None, measured=measured)]
    assert texts(word_ledger(entries, calibrate(entries), WEEK)) == [
        "x switched on: score predicted +0.02 (+0.01 to +0.03), not measured: too early.",
        "x switched on: score predicted +0.02 (+0.01 to +0.03), measured +0.02 (+0.01 to +0.03): as predicted.",
        (
            "In the last four months: Of 1 measured prediction, 1 holds; the mean error is 0.001. "
            "1 change never predicted."
        ),
    ]
    assert texts(word_ledger(entries[2:], calibrate(entries), WEEK)) == []


def test_new_topics_are_in_the_order_of_their_questions():
    topics = [NewTopic("t-1", "bgp", 0, None), NewTopic("t-2", "vpp", 1, 0.412), NewTopic("t-3", "acl", 1200, 0.3)]
    assert texts(word_new_topics(topics)) == [
        "“acl”: 1,200 low-scoring questions, mean score 0.30.",
        "“vpp”: 1 low-scoring question, mean score 0.41.",
    ]


def test_spending_is_that_of_answers_with_a_price_and_of_judging():
    lines = word_spending(NOW, BEFORE, by_prompt={"v2": 1.0, "v3": 0.25, "": 3.0}, judging_usd=0.1, judged=1)
    assert texts(lines) == [
        "$1.25 for 50 answers with a price, $0.0250 each (before: $1.00 for 40).",
        "By prompt version: v2 $1.00, v3 $0.25.",
        "$0.10 for judging 1 answer.",
    ]
    assert texts(word_spending(PeriodFigures(), PeriodFigures(), by_prompt={}, judging_usd=0.0, judged=0)) == []


def test_what_waits_leads_to_where_it_is_decided():
    (line,) = word_waiting([Todo("corpus/v2", "corpus", "Ship corpus v2", filters=(("tab", "Indexes"),))])
    assert (line.text, line.page, line.filters) == ("Ship corpus v2.", "corpus", (("tab", "Indexes"),))
