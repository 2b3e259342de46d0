"""The live figures of the prompts page: what each version does in production, beside its offline figures."""

from datetime import date

import streamlit as st

from app import ui
from app.resources import load_behaviour
from core.behaviour import VersionBehaviour
from core.log_rows import Measured
from core.retrievals import last_days


def render_behaviour(name: str, experiment: str, today: date) -> None:
    """Draw the table of versions over a window of the retrieval log."""
    days = st.segmented_control(
        "Time range", ui.RANGES, default="30d", required=True, key="days", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    window = last_days(ui.RANGES[days or "30d"], until=today)
    found = load_behaviour(name, experiment, window)
    if not found.queries:
        ui.render_empty("The retrieval log holds no query of these days.", "quarterdeck import log.csv", link="drift")
        return
    st.markdown(say_who_answers(found.versions, found.queries))
    cut = " There are more: these are the newest." if found.is_cut else ""
    st.caption(
        f"Live figures are means over those of the {found.queries:,} queries that carry them; offline ones are those "
        f"of the newest evaluated run of the version.{cut}"
    )
    ui.show_table([_row(each) for each in found.versions], key="prompts-live", file_name="live.csv")


def say_who_answers(versions: tuple[VersionBehaviour, ...], queries: int) -> str:
    """Which versions answer how much of the traffic."""
    answering = sorted((each for each in versions if each.live), key=lambda each: -each.live.queries)  # type: ignore[union-attr]
    named = ", ".join(
        f"**{ui.plain(each.label) or 'no version named'}** {ui.format_share(each.live.queries / queries)}"  # type: ignore[union-attr]
        for each in answering[:6]
    )
    return f"Of the live queries, these versions answered: {named}."


def _row(each: VersionBehaviour) -> dict[str, object]:
    offline, live = (each.offline.metrics if each.offline else {}), each.live
    return {
        "version": each.label or "(none)",
        "in production": "yes" if each.is_in_production else "" if each.prompt else "not registered",
        "live queries": live.queries if live else 0,
        "live score": _say(live.score if live else None),
        "offline faithfulness": ui.format_score(offline.get("faithfulness_mean")),
        "live faithfulness": _say(live.faithfulness if live else None),
        "offline cost": _say_usd(offline.get("cost_usd_mean")),
        "live cost": _say_usd(live.cost_usd.mean) + _count(live.cost_usd) if live else "—",
        "live feedback": _say(live.feedback if live else None, signed=True),
        "live latency": f"{live.latency_ms.mean:.0f} ms" if live and live.latency_ms.mean is not None else "—",
    }


def _say(figure: Measured | None, *, signed: bool = False) -> str:
    if figure is None or figure.mean is None:
        return "—"
    return f"{figure.mean:+.2f}{_count(figure)}" if signed else f"{figure.mean:.2f}{_count(figure)}"


def _say_usd(amount: float | None) -> str:
    return "—" if amount is None else f"${amount:.6f}" if amount < 0.001 else f"${amount:.4f}"


def _count(figure: Measured) -> str:
    return f" (n = {figure.count:,})" if figure.count else ""
