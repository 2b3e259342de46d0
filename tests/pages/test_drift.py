"""The drift page on the demo."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from app import ui
from tests.conftest import Demo
from tests.pages.opening import CHAT_ROWS, ask, click_table, open_page, utc_midnight_ms, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_drift_says_by_how_much_and_since_when_the_score_fell(as_demo: Demo) -> None:
    app = open_page("drift")
    means = r"from 0\.\d{2,3} to 0\.\d{2,3}"
    fell = rf"Retrieval score fell by 0\.\d{{2,3}} since [^.]+, {means}[^.]*\. Most likely: users ask about"
    assert re.match(fell, verdict(app))
    details = " ".join(caption.value for caption in app.caption)
    said = re.search(
        r"fell by ([\d.]+) .* since (\d+ \w+ \d+): ([\d.]+) over ([\d,]+) .* against ([\d.]+) over", details
    )
    assert said, details
    since = int(datetime.strptime(f"{said[2]} +0000", "%d %b %Y %z").timestamp() * 1000)
    assert utc_midnight_ms(9) <= since <= utc_midnight_ms(4)
    ((now, count),) = ask(
        as_demo.config.home / "quarterdeck.db",
        f"SELECT AVG(score), COUNT(score) FROM {CHAT_ROWS} AND ts_ms >= ? AND ts_ms < ?",
        since,
        utc_midnight_ms(0),
    )
    ((before,),) = ask(
        as_demo.config.home / "quarterdeck.db", f"SELECT AVG(score) FROM {CHAT_ROWS} AND ts_ms < ?", since
    )
    assert float(said[3]) == pytest.approx(now, abs=0.01)  # a text of over 1% of a day weighs less than its count
    assert int(said[4].replace(",", "")) == count
    assert float(said[5]) == pytest.approx(before, abs=0.01)
    assert float(said[1]) == pytest.approx(before - now, abs=0.02)
    assert "re-index" in " ".join(caption.value for caption in app.caption)


@pytest.mark.deep
def test_a_cause_opens_the_questions_behind_it(as_demo: Demo) -> None:
    app = open_page("drift")
    causes = list(app.dataframe[0].value["cause"])
    assert causes[0].startswith("users ask about")
    opened = {}
    for place in (0, len(causes) - 1):
        click_table(app, {"rows": [place], "columns": [], "cells": []})
        assert not app.exception
        opened[place] = [each.proto for each in app.get("page_link") if "questions" in each.proto.label]
    about = [link.query_string for link in opened[0] if link.label.startswith("See the questions about")]
    assert about
    assert all(re.fullmatch(r"topic=t-\w+&days=7d", query) for query in about)
    since = [link for link in opened[len(causes) - 1] if link.label.startswith("See the low questions since")]
    assert len(since) == 2  # that of the drop, and that of the cause
    assert all(re.fullmatch(r"low=1&since=[\d-]+&days=90d", link.query_string) for link in since)


@pytest.mark.deep
def test_drift_shows_the_mean_since_the_day_it_names(as_demo: Demo) -> None:
    metrics = {metric.label: metric.value for metric in open_page("drift").metric}
    label = next(label for label in metrics if label.startswith("Mean score since"))
    days = {ui.format_day(datetime.now(UTC).date() - timedelta(days=ago)): ago for ago in range(9)}
    since = utc_midnight_ms(days[label.removeprefix("Mean score since ")])
    ((mean,),) = ask(
        as_demo.config.home / "quarterdeck.db",
        f"SELECT AVG(score) FROM {CHAT_ROWS} AND ts_ms >= ? AND ts_ms < ?",
        since,
        utc_midnight_ms(0),
    )
    assert float(metrics[label]) == pytest.approx(mean, abs=0.01)  # a text of over 1% of a day weighs less
    assert float(metrics["Change"]) < -0.05


@pytest.mark.deep
def test_accepting_the_level_restarts_the_reference(demo_url: str) -> None:
    app = open_page("drift")
    app.text_input(key="drift_reason").input("users moved on to VPP")
    next(each for each in app.button if each.label.startswith("Accept")).click().run()
    assert not app.exception
    assert ask(demo_url, "SELECT action, reason FROM audit ORDER BY id DESC LIMIT 1") == [
        ("drift.accept", "users moved on to VPP")
    ]
    assert "The reference restarts today." in app.success[0].value
    assert "Drifting" not in " ".join(m.value for m in open_page("drift").markdown)
    next(each for each in app.button if each.label == "Undo").click().run()
    assert "Drifting" in " ".join(m.value for m in open_page("drift").markdown)
