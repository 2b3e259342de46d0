"""The daily score band: one box a day, an axis that fits, the change as a range, and a lane of what changed."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from app import charts
from core.arms.arms import Metric
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.values import DriftReport, DriftStatus
from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS

FIRST = date(2026, 11, 1)
REPORT = DriftReport(
    DriftStatus.DRIFTING, "", "", baseline_avg_score=0.61, baseline_from=FIRST, baseline_until=date(2026, 11, 5),
    changed_on=date(2026, 11, 7), changed_from=date(2026, 11, 6), changed_until=date(2026, 11, 8),
    recent_from=date(2026, 11, 7), recent_until=date(2026, 11, 10),
)  # fmt: skip
STABLE = DriftReport(DriftStatus.STABLE, "", "")


def of_day(number: int, score: float, count: int = 10) -> DailyScores:
    """A day whose questions all have one score."""
    bins = [0] * HISTOGRAM_BINS
    bins[int(score * HISTOGRAM_BINS)] = count
    day = FIRST + timedelta(days=number)
    return DailyScores(day, count, score * count, score * score * count, tuple(bins))


DAYS = [of_day(number, 0.61 if number < 6 else 0.41) for number in range(10)]


def change(at: datetime, summary: str = "index v2 live", kind: ChangeKind = ChangeKind.INDEX) -> TimelineChange:
    return TimelineChange(at, kind, "docs", summary, "ada", "because", entry_id=7)


def test_the_title_says_what_the_median_did() -> None:
    figure = charts.draw_score_band(DAYS, REPORT)
    assert figure.layout.title.text == "The median score is 0.41 since 6 to 8 Nov; before, it was 0.61 (mean 0.61)"
    figure = charts.draw_score_band(DAYS, STABLE)
    assert figure.layout.title.text == "The daily median score was between 0.41 and 0.61 on 10 days"
    assert charts.draw_score_band(DAYS[:1], STABLE).layout.title.text == "The median score of the only day is 0.61"


def test_the_axis_fits_the_scores_and_stays_within_zero_and_one() -> None:
    low, high = charts.draw_score_band(DAYS, REPORT).layout.yaxis.range
    assert 0.3 < low < 0.41
    assert 0.62 < high < 0.7
    assert charts.draw_score_band([of_day(0, 0.99)], STABLE).layout.yaxis.range[1] == 1.0


def test_a_chart_begins_with_the_log_and_not_before() -> None:
    silent = replace(DAYS[0], count=0, logged=0, bins=(0,) * HISTOGRAM_BINS)
    assert charts.find_first_day(DAYS, since=FIRST - timedelta(days=60)) == FIRST
    assert charts.find_first_day([silent, *DAYS[1:]], since=FIRST) == FIRST + timedelta(days=1)
    assert charts.find_first_day(DAYS[3:], since=FIRST + timedelta(days=5)) == FIRST + timedelta(days=5)
    assert charts.find_first_day((), since=FIRST) == FIRST


def test_the_days_of_the_change_are_shaded_and_named() -> None:
    figure = charts.draw_score_band(DAYS, REPORT)
    (shade,) = [shape for shape in figure.layout.shapes if shape.x0 == "2026-11-06"]
    assert shade.x1 == "2026-11-09"  # the end of the last day
    assert "changed 6 to 8 Nov" in [note.text for note in figure.layout.annotations]


def test_one_trace_answers_for_a_day_with_its_questions_median_band_and_changes() -> None:
    figure = charts.draw_score_band(DAYS, REPORT)
    noon = datetime(2026, 11, 7, 12, tzinfo=UTC)
    made = [change(noon, f"change {number} <b>") for number in range(5)]
    charts.mark_changes(figure, made, first=FIRST, last=FIRST + timedelta(days=9))
    told = [trace for trace in figure.data if trace.yaxis in (None, "y") and trace.hoverinfo != "skip"]
    assert [trace.name for trace in told] == ["median"]
    assert "markers" in told[0].mode  # a line without marks cannot be clicked
    assert told[0].customdata[6].startswith("10 questions<br>median 0.41, 80% between ")
    assert told[0].customdata[6].endswith("changed: change 2 &lt;b&gt;<br>and 2 more")
    assert told[0].customdata[5].count("<br>") == 1


def test_changes_lie_in_a_lane_of_their_own_and_say_their_entry() -> None:
    figure = charts.draw_score_band(DAYS, REPORT)
    noon = datetime(2026, 11, 7, 12, tzinfo=UTC)
    made = [change(noon), change(noon + timedelta(minutes=1)), change(noon - timedelta(days=30))]
    charts.mark_changes(figure, made, first=FIRST, last=FIRST + timedelta(days=9))
    (lane,) = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0]
    assert list(lane.y) == [0, 1]  # not on top of each other
    assert [list(each) for each in lane.customdata] == [["change", 7, ""]] * 2


def test_the_table_of_the_days_holds_what_their_boxes_say() -> None:
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    (row,) = charts.list_day_rows(DAYS[:1], [change(noon)])
    assert (row["day"], row["questions"], row["what changed"]) == (FIRST, 10, "index v2 live")
    assert round(float(str(row["median"])), 2) == 0.61
    assert charts.list_day_points(DAYS[:1]) == [{"x": "2026-11-01"}]


def test_days_without_a_score_are_left_out() -> None:
    empty = DailyScores(FIRST, 0, 0.0, 0.0, (0,) * HISTOGRAM_BINS)
    figure = charts.draw_score_band([empty], STABLE)
    assert figure.layout.title.text == "No day of this range has a score"
    assert charts.list_day_rows([empty]) == charts.list_day_points([empty]) == []


def test_more_than_three_arms_have_a_panel_each_on_one_scale() -> None:
    together = charts.draw_arms([], Metric.SCORE, colors=dict.fromkeys("abc", "#0072b2"), title="three")
    assert {trace.yaxis for trace in together.data} == {None}
    apart = charts.draw_arms([], Metric.SCORE, colors=dict.fromkeys("abcd", "#0072b2"), title="four")
    assert [trace.yaxis for trace in apart.data] == ["y", "y2", "y3", "y4"]
    assert [note.text for note in apart.layout.annotations] == ["a", "b", "c", "d"]
    domains = [apart.layout[f"xaxis{at}"].domain for at in ("", 2, 3, 4)]
    assert all(former[1] < later[0] for former, later in pairwise(domains))


def test_the_title_of_arms_keeps_names_as_they_are_written_and_escapes_them_once() -> None:
    told = charts.title_means(Metric.SCORE, ["qa-V3 & <b> 0.61", "short 0.58"])
    assert told == "Score so far: qa-V3 &amp; &lt;b&gt; 0.61, short 0.58"
