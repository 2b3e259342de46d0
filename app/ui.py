"""Shared elements of the pages: frame, verdicts, states, charts. Draws what it is given and decides nothing.

Text from users (queries, file names, reasons) reaches Markdown only through `plain`.
"""

import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import streamlit as st

from app import glossary
from app.cards import show_chart as show_chart
from app.cards import style_chart as style_chart
from app.connections import find_unconnected, render_connecting
from app.feedback import record_change as record_change
from app.feedback import render_said as render_said
from app.feedback import render_toast
from app.feedback import submit_change as submit_change
from app.feedback import tell as tell
from app.feedback import was_made as was_made
from app.looks import Mark as Mark
from app.looks import StatusLook as StatusLook
from app.navigation import TITLES, first_service, link_to, shown_environment, shown_service
from app.tables import age_column as age_column
from app.tables import link_column as link_column
from app.tables import open_by_row as open_by_row
from app.tables import score_column as score_column
from app.tables import share_column as share_column
from app.tables import show_table as show_table
from app.tables import time_column as time_column
from app.tables import viewer_zone as viewer_zone
from app.tables import write_csv as write_csv
from app.text import plain, plain_error, show_unseen
from core.corpus.worddiff import SegmentKind, TextSegment
from core.drift.verdict import DriftStatus
from core.errors import QuarterdeckError
from core.safety.letters import show_text
from quarterdeck.scope import DEFAULT_ENVIRONMENT, DEFAULT_SERVICE, Scope, fold_environment

# How long a change of a flag, an index or a token takes to reach everybody: clients and servers poll once a second.
FLIP_SEEN_WITHIN_S = 2
FLIP_SEEN = f"Services see it within {FLIP_SEEN_WITHIN_S} seconds."
RANGES = {"7d": 7, "14d": 14, "30d": 30, "90d": 90}  # as in the URL and the switch

_FIRST_LOOK_S = 0.1
_SWITCH_PX = 168  # wide enough for the names that most have; longer ones end in an ellipsis, and the list shows them
_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the visitor chose to see: environment and service, the last `days` days, and the date of today there."""

    environment: str
    days: int
    today: date
    service: str = DEFAULT_SERVICE

    @property
    def scope(self) -> Scope:
        """Whose retrievals are shown."""
        return Scope(fold_environment(self.environment), self.service)


DRIFT_LOOKS: Mapping[DriftStatus, StatusLook] = {
    DriftStatus.INSUFFICIENT_DATA: StatusLook("Too little data", "gray", Mark.UNKNOWN),
    DriftStatus.STABLE: StatusLook("Stable", "green", Mark.FINE),
    DriftStatus.WATCH: StatusLook("Watch", "orange", Mark.WATCH),
    DriftStatus.DRIFTING: StatusLook("Drifting", "red", Mark.WORSE),
    DriftStatus.OUTAGE: StatusLook("Outage", "red", Mark.OUTAGE),
}


def render_frame(
    title: str,
    *,
    environments: Sequence[str] = (),
    services: Sequence[Scope] = (),
    new: Collection[str | Scope] = (),
    today_of: Callable[[Scope], date] = lambda _scope: datetime.now(UTC).date(),
    ranges: bool = True,
    most_days: int = 90,
) -> Frame:
    """Draw the page's title and its filters, which live in the URL; return what the visitor chose.

    The first of the environments is shown unless the visitor chose another; a page of all of them gives none, and has
    no switch. `services` are those of all environments;
    the switch is drawn where the chosen environment has more than one. What is among `new` is shown as new. `today_of`
    returns the date of a scope. Ranges above `most_days` are not offered; an address that asks for one is told so.
    """
    is_opened = st.session_state.get("page_seen") != title
    st.session_state["is_first_look"] = st.session_state["is_just_opened"] = is_opened
    st.session_state["page_seen"] = title
    render_toast()
    chosen: str | None = "30d"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="frame_row"):
        st.title(title, anchor=False, width="stretch")
        if ranges:
            offered = [name for name, days in RANGES.items() if days <= most_days]
            asked = st.query_params.get("days", "")
            chosen = st.segmented_control(
                "Time range",
                offered,
                default="30d",
                required=True,
                key="days",
                bind="query-params",
                label_visibility="collapsed",
            )
        environment = _choose_environment(environments, new) if environments else DEFAULT_ENVIRONMENT
        here = [scope for scope in services if scope.environment == fold_environment(environment)]
        service = _choose_service([scope.service for scope in here], {scope.service for scope in here if scope in new})
    if ranges and RANGES.get(asked, 0) > most_days:
        st.caption(f"{RANGES[asked]} days are not offered here, at most {most_days}: these are the last 30.")
    return Frame(environment, RANGES[chosen or "30d"], today_of(Scope(fold_environment(environment), service)), service)


def _choose_environment(environments: Sequence[str], new: Collection[object]) -> str:
    """Draw the environment switch; the choice stays in the URL and on the visitor's next pages.

    Not by `bind`: on the first page after a deep link its widget shows the default while the page shows the other one.
    """
    current = st.session_state["environment"] = shown_environment(environments)
    _keep_environment(environments[0])
    st.selectbox(
        "Environment",
        environments,
        key="environment",
        on_change=_keep_environment,
        args=(environments[0],),
        format_func=lambda name: _say_new(name, new),
        label_visibility="collapsed",
        width=_SWITCH_PX,
    )
    return current


def _choose_service(services: Sequence[str], new: Collection[object]) -> str:
    """Draw the switch of services where there is a choice; like that of environments."""
    if len(services) < 2:
        return services[0] if services else DEFAULT_SERVICE
    default = first_service(services)
    current = st.session_state["service"] = shown_service(services)
    _keep_service(default)
    st.selectbox(
        "Service",
        services,
        key="service",
        on_change=_keep_service,
        args=(default,),
        format_func=lambda name: _say_new(name, new),
        label_visibility="collapsed",
        width=_SWITCH_PX,
    )
    return current


def _say_new(name: str, new: Collection[object]) -> str:
    return f"{show_text(name)} (new)" if name in new else show_text(name)


def _keep_service(default: str) -> None:
    """Put the chosen service into the URL, unless it is the default."""
    chosen = st.session_state["service_kept"] = st.session_state["service"]
    if chosen != default:
        st.query_params["service"] = chosen
    elif "service" in st.query_params:
        del st.query_params["service"]


def _keep_environment(default: str) -> None:
    """Put the chosen environment into the URL, unless it is the default."""
    chosen = st.session_state["environment_kept"] = st.session_state["environment"]
    if chosen != default:
        st.query_params["environment"] = chosen
    elif "environment" in st.query_params:
        del st.query_params["environment"]


def choose_named(
    label: str, names: Sequence[_Name], *, key: str, say_gone: Callable[[str], str],
    format_func: Callable[[_Name], str] = str, placeholder: str = "Choose one",
) -> _Name | None:  # fmt: skip
    """Draw the choice of one thing, whose name is in the address; return it.

    For a name in the address that is none of these, say what `say_gone` says and choose nothing, never another one.
    """
    wanted = st.query_params.get(key)
    found = next((name for name in names if str(name) == wanted), None)
    if wanted is not None and found is None:
        st.warning(say_gone(wanted), icon=":material/link_off:")
    chosen = found if wanted is not None else (names[0] if names else None)
    st.session_state[key] = chosen
    return st.selectbox(
        label, names, key=key, format_func=format_func, placeholder=placeholder, on_change=keep_named, args=(key,)
    )


def tell_gone(key: str, names: Collection[str], what: str) -> None:
    """Say that what the address names is not there, before a choice whose address Streamlit puts right by itself."""
    wanted = st.query_params.get(key)
    if wanted is not None and wanted not in names:
        said = f"There is no {what} {plain(shorten(wanted, 60))} here: it was removed or renamed, or never was."
        st.warning(said, icon=":material/link_off:")


def keep_named(key: str) -> None:
    """Put what was chosen into the address."""
    chosen = st.session_state[key]
    if chosen is not None:
        st.query_params[key] = str(chosen)
    elif key in st.query_params:
        del st.query_params[key]


def render_verdict(sentence: str, look: StatusLook, *, detail: str = "") -> None:
    """Draw the one sentence that answers the page's question; `sentence` is Markdown, users' text escaped.

    On a page that was just opened the rest follows a moment later, so that the browser paints the sentence first.
    """
    with st.container(horizontal=True, vertical_alignment="top", gap="small", key="verdict"):
        render_badge(look)
        st.markdown(f"#### {sentence}", width="stretch", help=None if detail else glossary.explain(sentence))
    if detail:
        st.caption(detail, help=glossary.explain(sentence, detail))
    if st.session_state.pop("is_first_look", False) and st.context.headers:  # not in tests without a browser
        time.sleep(_FIRST_LOOK_S)


@contextmanager
def holding(height_px: int) -> Iterator[None]:
    """Keep the place of what is being read on a page that was just opened, as high as what comes.

    On later runs the place stays, empty: browsers know elements by their places, and all that follow would be made
    anew, without the visitor's focus.
    """
    if not st.session_state.get("is_just_opened"):
        st.empty()
        yield
        return
    with st.skeleton(height=height_px):
        yield


def render_badge(look: StatusLook, *, about: str = "Verdict") -> None:
    """Draw a status. Screen readers are told what it is about, in bold words that are not drawn (style.css)."""
    st.markdown(f":{look.color}-badge[**{plain(about)}:** {look.label}]", width="content")


def render_empty(sentence: str, command: str, *, link: str = "overview") -> None:
    """Draw the empty state: one sentence, one command to copy, one link (`link=""` for none)."""
    st.info(sentence)
    st.code(command, language=None)
    if link:
        link_to(link, f"See also: {TITLES[link]}")


@contextmanager
def showing_errors(what: str) -> Iterator[None]:
    """Show an error of ours as one line, with what could not be read; the rest of the page still works.

    A source that was never set up is no error: it says how to connect it.
    """
    try:
        yield
    except QuarterdeckError as error:
        if source := find_unconnected(error):
            render_connecting(source)
            return
        st.error(f"**{what}** — {plain_error(error)}")


def mark_words(segments: Sequence[TextSegment], *, removed: bool, added: bool) -> str:
    """Return a word diff as Markdown: removed words struck out, added words bold, each on its color."""
    marks = {
        SegmentKind.SAME: "{}",
        SegmentKind.REMOVED: ":red-background[~~{}~~]" if removed else "",
        SegmentKind.ADDED: ":green-background[**{}**]" if added else "",
    }
    return "".join(_mark(segment.text, marks[segment.kind]) for segment in segments if marks[segment.kind])


def _mark(text: str, mark: str) -> str:
    """Put a mark around the words of each line; breaks and the spaces at the ends stay outside."""
    lines = []
    for line in text.split("\n"):
        words = plain(line)
        before, after = (" " if words and line[at].isspace() else "" for at in (0, -1))
        lines.append(f"{before}{mark.format(words)}{after}" if words else " " * bool(line))
    return "  \n".join(lines)


def shorten(text: str, length: int = 120) -> str:
    """Return the text on one line, cut to `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def chart_text(text: str, length: int = 60) -> str:
    """Return users' text for a chart: shortened, and escaped because Plotly interprets tags."""
    return shorten(show_unseen(text), length).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table with escaped cells."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([plain(str(cell)) for cell in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def format_score(score: float | None) -> str:
    """Return a score with two decimals."""
    return "—" if score is None else f"{score:.2f}"


def format_share(share: float | None) -> str:
    """Return a share of 0..1 in percent; a small one is never shown as 0%."""
    if share is None:
        return "—"
    if 0 < share < 0.0005:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def format_usd(amount: float | None) -> str:
    """Return an amount of money with four decimals, six when it is less than a tenth of a cent."""
    if amount is None:
        return "—"
    return f"${amount:.4f}" if amount == 0 or abs(amount) >= 0.001 else f"${amount:.6f}"


def format_bytes(size: int | None) -> str:
    """Return a size in B, kB, MB or GB; "size unknown" if nobody knows it without asking a remote."""
    if size is None:
        return "size unknown"
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < (1000 if unit == "B" else 999.95):  # 1000.0 after rounding takes the next unit
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def format_ago(moment: datetime, *, now: datetime | None = None) -> str:
    """Return how long ago a time was, in its largest unit."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now" if seconds > -60 else f"on {moment:%d %b %Y}"


def show_age(moment: datetime | None) -> None:
    """Draw how long ago something was, with the instant on hover; a dash where nobody knows."""
    if moment is None:
        st.caption("—")
    else:
        st.badge(format_ago(moment), color="gray", help=say_instant(moment))


def say_instant(moment: datetime | None, what: str = "") -> str | None:
    """Return when something was, here and in UTC: the hover text of how long ago that is. None for nothing."""
    if moment is None:
        return None
    return f"{what} {format_moment(moment)} ({format_utc(moment)})".strip()


def format_day(day: date) -> str:
    """Return a day as people say it: 17 Nov."""
    return f"{day.day} {day:%b}"


def format_moment(moment: datetime) -> str:
    """Return a time in the visitor's time zone."""
    local = moment.astimezone(ZoneInfo(viewer_zone()))
    return f"{local.day} {local:%b %Y, %H:%M}"


def format_utc(moment: datetime) -> str:
    """Return a time in UTC, for the hover text of `format_moment`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
