"""The live figures of the prompts page: what each version does in production, next to its offline figures."""

from collections.abc import Collection, Sequence
from datetime import date

import streamlit as st

from app import ui
from app.panels.prompts.resources import load_behavior
from app.text import plain
from core.log.retrievals import last_days
from core.log.values import LIVE_FIGURES, Measured
from core.prompts.behavior import VersionBehavior
from core.prompts.live import LEAST_USERS, LiveDifference
from core.tracking.conventions import read_evaluation
from core.wording.scores import say_change

_NAMES = {"cost_usd": "cost", "latency_ms": "latency"}


def render_behavior(name: str, experiment: str, *, today: date, environment: str) -> None:
    """Draw the table of versions over a window of the retrieval log."""
    days = st.segmented_control(
        "Time range", ui.RANGES, default="30d", required=True, key="days", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    window = last_days(ui.RANGES[days or "30d"], until=today)
    found = load_behavior(name, experiment, window, environment)
    if not found.queries:
        ui.render_empty("The retrieval log has no question in these days.", "quarterdeck import log.csv", link="drift")
        return
    st.markdown(say_who_answers(found.versions, found.queries))
    cut = " There are more: these are the newest." if found.is_cut else ""
    missing = find_missing(found.versions)
    st.caption(
        f"Live figures are means over those of the {found.queries:,} questions that carry them (n); offline ones are "
        f"those of the newest evaluated run of the version.{cut}{say_missing(missing)}"
    )
    rows = [
        {name: value for name, value in _row(each).items() if name not in missing.values()} for each in found.versions
    ]
    ui.show_table(rows, key="prompts-live", file_name="live.csv")
    if found.compared_with:
        render_differences(found.versions, found.compared_with)


def render_differences(versions: Sequence[VersionBehavior], other: VersionBehavior) -> None:
    """How each version differs from one of them on the days that both answered."""
    name = plain(other.label)
    where = f"{name} in production" if other.is_in_production else f"{name}, which answers the most questions"
    rows = [_difference(version, each) for version in versions for each in version.differences]
    if not rows:
        st.caption(f"No version can be compared with {where} yet: both need {LEAST_USERS} users on the same days.")
        return
    st.markdown(f"Compared with {where}, on the days on which both answered:")
    ui.show_table(rows, key="prompts-live-differences", file_name="live_differences.csv")
    st.caption(
        "Days are weighted by the questions of both versions, and all questions of a user count as one observation. "
        "The 95% interval is for a single check: if you check every day, a false difference is more likely. An "
        "experiment on the flag is always valid: you may check it at any time."
    )


def _difference(version: VersionBehavior, each: LiveDifference) -> dict[str, object]:
    amounts = (_amount(each.figure, value) for value in (each.difference, each.low, each.high))
    difference, low, high = amounts
    return {
        "version": version.label, "figure": _NAMES.get(each.figure, each.figure), "difference": difference,
        "95% interval": f"{low} to {high}", "so": "differs" if each.low > 0 or each.high < 0 else "may be chance",
        "common days": each.days, "users of both": each.users,
    }  # fmt: skip


def _amount(figure: str, value: float) -> str:
    if figure == "cost_usd":
        return f"{'-' if value < 0 else '+'}{ui.format_usd(abs(value))}"
    return f"{value:+,.0f} ms" if figure == "latency_ms" else say_change(value)


def find_missing(versions: Sequence[VersionBehavior]) -> dict[str, str]:
    """What no service has reported of any of these queries, and the column that it would fill."""
    reported = [each.live for each in versions if each.live]
    return {
        _NAMES.get(figure, figure): f"live {_NAMES.get(figure, figure)}"
        for figure in LIVE_FIGURES
        if not any(getattr(live, figure).count for live in reported)
    }


def say_missing(missing: Collection[str]) -> str:
    """The sentence about what was not reported; empty when all was."""
    if not missing:
        return ""
    *others, last = missing
    named = f"{', '.join(others)} and {last}" if others else last
    return f" No service reported {named} in these days; a service logs them with its retrievals."


def say_who_answers(versions: tuple[VersionBehavior, ...], queries: int) -> str:
    """Which versions answer how much of the traffic."""
    answering = sorted((each for each in versions if each.live), key=lambda each: -each.live.queries)  # type: ignore[union-attr]
    named = ", ".join(
        f"**{plain(each.label) or 'no version named'}** {ui.format_share(each.live.queries / queries)}"  # type: ignore[union-attr]
        for each in answering[:6]
    )
    return f"Of the live questions, these versions answered: {named}."


def _row(each: VersionBehavior) -> dict[str, object]:
    offline, live = read_evaluation(each.offline) if each.offline else None, each.live
    return {
        "version": each.label or "(none)",
        "in production": "yes" if each.is_in_production else "" if each.prompt else "not registered",
        "live questions": live.queries if live else 0,
        "live score": _say(live.score if live else None),
        "offline faithfulness": ui.format_score(offline.faithfulness if offline else None),
        "live faithfulness": _say(live.faithfulness if live else None),
        "offline cost": ui.format_usd(offline.cost_usd if offline else None),
        "live cost": ui.format_usd(live.cost_usd.mean) + _count(live.cost_usd) if live else "—",
        "live feedback": _say(live.feedback if live else None, signed=True),
        "live latency": _say_ms(live.latency_ms if live else None),
    }


def _say(figure: Measured | None, *, signed: bool = False) -> str:
    if figure is None or figure.mean is None:
        return "—"
    return f"{figure.mean:+.2f}{_count(figure)}" if signed else f"{figure.mean:.2f}{_count(figure)}"


def _say_ms(figure: Measured | None) -> str:
    return "—" if figure is None or figure.mean is None else f"{figure.mean:,.0f} ms{_count(figure)}"


def _count(figure: Measured) -> str:
    return f" (n = {figure.count:,})" if figure.count else ""
