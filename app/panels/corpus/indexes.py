"""The vector indexes of the corpus page: build, probe, swap in, roll back, remove old ones."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from app import ui
from app.background import start_command
from app.navigation import link_to
from app.panels.corpus.model_map import render_model_map
from app.panels.corpus.replay import render_replay
from app.panels.corpus.versions import choose_revision
from app.panels.shared.jobs import render_command, start
from app.panels.shared.rehearsals import render_rehearsal
from app.resources import get_config, get_corpus, get_jobs, get_store
from app.text import plain, plain_error, show_unseen
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.corpus.versions import Version
from core.errors import InvalidInput, QuarterdeckError
from core.flags.store import list_flags
from core.indexes.builds import collect_garbage, find_probe, plan_garbage, ship_probed_index
from core.indexes.operations import find_rollback, swap_index
from core.indexes.probes import ProbeRecord
from core.indexes.registry import Alias, Index, list_swaps
from core.indexes.retention import KEEP
from core.jobs.jobs import JobState
from core.rehearsals.report import rehearse_index
from core.rollouts.index_canaries import DEFAULT_STEPS, explain_pause, start_index_canary
from core.wording.counts import count_of
from quarterdeck.index_canaries import canary_key
from quarterdeck.scope import Scope

DEFAULT_ALIAS = "default"


def render_indexes(
    versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[Alias], scope: Scope
) -> None:
    """Draw the live index, all indexes, and the forms for them."""
    names = list(dict.fromkeys([*(alias.alias for alias in aliases), DEFAULT_ALIAS]))
    chosen = st.selectbox(
        "Alias: the name that services search",
        names,
        key="alias",
        bind="query-params",
        accept_new_options=True,
        width=320,
    )
    alias = chosen or DEFAULT_ALIAS
    live = next((known.index_name for known in aliases if known.alias == alias), None)
    st.markdown(say_what_is_live(alias, live, indexes))
    probes = {index.name: find_probe(get_store(), index.name) for index in indexes}
    if indexes:
        render_table(indexes, aliases, probes)
    else:
        st.caption("No index is built yet.")
    left, right = st.columns(2)
    with left:
        render_build(versions)
        if live:
            render_rollback(alias, live, scope)
        ui.render_said("index-swap")
        render_garbage()
    with right:
        others = [index for index in indexes if index.name != live]
        if others:
            name = render_candidate(alias, live, others, probes)
        else:
            st.subheader("Go live", anchor=False)
            st.caption("There is no other index that could go live. Build one.")
    if others:
        by_name = {index.name: index for index in indexes}
        render_model_map(alias, by_name.get(live or ""), by_name[name], scope)
        render_replay(alias, live, name, scope)


def say_what_is_live(alias: str, live: str | None, indexes: Sequence[Index]) -> str:
    """The sentence above the table, in Markdown."""
    index = next((index for index in indexes if index.name == live), None)
    if live is None:
        return f"**{plain(alias)}** points to no index yet: readers find none."
    if index is None:
        return f"**{plain(alias)}** points to {plain(live)}, which is not registered."
    swaps = list_swaps(get_store(), alias)
    since = f", since {ui.format_ago(swaps[-1].at).removesuffix(' ago')}" if swaps else ""
    return (
        f"**{plain(alias)}** points to **{plain(live)}**: corpus {plain(index.corpus_version)}, "
        f"{count_of(index.chunks, 'chunk')}{since}."
    )


def render_table(indexes: Sequence[Index], aliases: Sequence[Alias], probes: dict[str, ProbeRecord | None]) -> None:
    """Every index with what it holds and how its last probe went."""
    ui.show_table(
        [
            {"index": index.name,
             "live as": ", ".join(alias.alias for alias in aliases if alias.index_name == index.name),
             "corpus": index.corpus_version, "chunks": index.chunks, "model": index.model, "chunking": index.chunking,
             "built": index.built, "by": index.built_by, "last probe": _say_probe(probes[index.name])}
            for index in indexes
        ],
        key="corpus-indexes", file_name="indexes.csv",
    )  # fmt: skip


def _say_probe(record: ProbeRecord | None) -> str:
    if record is None:
        return "never"
    return f"{'passed' if record.report.passed else 'failed'} {ui.format_ago(record.probed)}"


def render_build(versions: Sequence[Version]) -> None:
    """The form that builds an index of a version next to the live one, and the job's status."""
    st.subheader("Build", anchor=False)
    st.caption(
        "Readers are not affected: the index is built next to the live one, and only new texts are embedded. "
        "A build that was killed resumes where it stopped."
    )
    job = get_jobs().find("build")
    if job is None or job.state is not JobState.RUNNING:
        with st.form("build", clear_on_submit=True):
            choose_revision("Corpus version", versions, key="build-version", default=versions[0].name, linked=False)
            st.text_input("Reason", key="build-reason", max_chars=500)
            st.form_submit_button(
                "Build index", type="primary", on_click=build, **lock(Action.JOB_START, get_config().environment)
            )
    ui.render_said("index-build")
    render_command("build", "Build")


def build() -> None:
    """Start the build. Runs before the page is drawn."""
    state = st.session_state

    def change() -> int:
        act = make_act(state["build-reason"], get_config().environment)
        name = get_corpus().name_revision(state["build-version"])
        return start_command("build", "index", "build", name, "--reason", act.reason, subject=name, act=act)

    ui.record_change(
        change, effect="Its progress is shown below; it continues when this page is closed.", place="index-build"
    )


def render_candidate(
    alias: str, live: str | None, others: Sequence[Index], probes: dict[str, ProbeRecord | None]
) -> str:
    """Draw one index that is not live: its probe, and the form that swaps it in; return its name."""
    st.subheader("Go live", anchor=False)
    names = [index.name for index in others]
    if live and st.query_params.get("index") == live:
        st.info(f"{plain(live)} is live under {plain(alias)} already; these are the others.")
    else:
        ui.tell_gone("index", names, "index")
    name = st.selectbox("Index", names, key="index", bind="query-params") or names[0]
    st.button(
        "Probe", key="corpus-probe", on_click=probe, args=(alias, name),
        **{"help": "Searches it with its own passages, the golden set and recent questions, next to the live index.",
           **lock(Action.JOB_START, get_config().environment)},
    )  # fmt: skip
    render_command("probe", "Probe")
    record = probes.get(name)
    if record is None:
        st.caption(f"{plain(name)} was not probed yet: it cannot go live.")
        return name
    against = f" against {plain(record.live)}" if record.live else ""
    st.caption(
        f"Last probe of {plain(name)}{against}, {ui.format_ago(record.probed)}:", help=ui.say_instant(record.probed)
    )
    for check in record.report.checks:
        mark = f":green[{ui.Mark.FINE.icon}]" if check.passed else f":red[{ui.Mark.FAILED.icon}]"
        st.markdown(f"{mark} **{plain(check.name)}** · {plain(check.reason)}")
    if not record.report.passed:
        st.error("It did not pass its probe, so it does not go live.")
    elif record.live != live:
        st.warning("Another index went live after that probe. Probe again.")
    else:
        if live:
            render_canary(alias, live, name)
        render_swap(alias, live, name)
    return name


def probe(alias: str, name: str) -> None:
    """Start the probe. Runs before the page is drawn."""
    start("probe", "index", "probe", name, "--alias", alias, subject=name, reason=f"may {alias} point at it?")


def render_canary(alias: str, live: str, name: str) -> None:
    """The form that lets a share of users search an index before it goes live."""
    environment, seen = get_config().environment, f"{alias}-{live}-{name}"
    key = canary_key(alias)
    running = next((flag for flag in list_flags(get_store(), environment) if flag.key == key), None)
    if running and running.view.green_pct and not explain_pause(get_store(), running):
        st.caption(f"A canary of {plain(alias)} is at {running.view.green_pct:g}% of users in {plain(environment)}.")
        link_to("rollouts", "See the canary", tab="Canaries", canary=key, environment=environment)
        return
    with st.form(f"canary-{seen}"):
        st.markdown(
            f"A share of the users in {plain(environment)} searches **{plain(name)}** instead of {plain(live)}; the "
            "others, and services that name no user, do not. It is rolled back automatically if it is worse."
        )
        st.text_input("Steps", DEFAULT_STEPS, key=f"canary-steps-{seen}", max_chars=500)
        st.text_input("Reason", key=f"canary-reason-{seen}", max_chars=500)
        st.form_submit_button(
            "Start a canary", on_click=start_canary, args=(alias, live, name),
            **lock(Action.CANARY_PROMOTE, environment),
        )  # fmt: skip


def start_canary(alias: str, live: str, name: str) -> None:
    """Start the canary of the index that the visitor saw."""
    seen, state = f"{alias}-{live}-{name}", st.session_state

    def change() -> int:
        act = make_act(state[f"canary-reason-{seen}"], get_config().environment)
        return start_index_canary(get_store(), alias, name, act, steps=state[f"canary-steps-{seen}"])

    ui.record_change(
        change, effect="It is on the page Rollouts, under Canaries, with its verdict and the way back.",
        place="index-swap",
    )  # fmt: skip


def render_swap(alias: str, live: str | None, name: str) -> None:
    """The form that swaps an index in."""
    seen = f"{alias}-{live}-{name}"
    with st.form(f"swap-{seen}"):
        was = f" instead of {plain(live)}" if live else ""
        st.markdown(
            f"Every reader of **{plain(alias)}** searches **{plain(name)}**{was} "
            f"within {ui.FLIP_SEEN_WITHIN_S} seconds. A rollback takes as long."
        )
        st.text_input("Reason", key=f"swap-reason-{seen}", max_chars=500)
        st.text_input("Type the index's name", key=f"swap-name-{seen}", placeholder=show_unseen(name))
        st.form_submit_button(
            "Let it go live", type="primary", on_click=swap, args=(alias, live, name),
            **lock(Action.INDEX_SWAP, get_config().environment),
        )  # fmt: skip


def swap(alias: str, live: str | None, name: str) -> None:
    """Swap the index in for the one that the visitor saw."""
    seen, state = f"{alias}-{live}-{name}", st.session_state

    def change() -> int:
        if state[f"swap-name-{seen}"].strip() != name:
            raise InvalidInput("name", f"type {name} to confirm that you mean it")
        act = make_act(state[f"swap-reason-{seen}"], get_config().environment)
        return ship_probed_index(get_store(), alias, name, act, expected=live)

    ui.record_change(
        change,
        effect=f"Readers follow within {ui.FLIP_SEEN_WITHIN_S} seconds; “Roll back” returns from {plain(name)}.",
        place="index-swap",
    )


def render_rollback(alias: str, live: str, scope: Scope) -> None:
    """The form that rolls back to the previous index."""
    st.subheader("Roll back", anchor=False)
    former = find_rollback(get_store(), alias)
    if former is None:
        st.caption(f"{plain(alias)} has no previous index that still exists.")
        return
    with st.form(f"rollback-{live}"):
        st.text_input("Reason", key=f"rollback-reason-{live}", max_chars=500)
        label = f"Roll back to {plain(former)}"
        st.form_submit_button(
            label, on_click=roll_back, args=(alias, live, former), **lock(Action.INDEX_SWAP, get_config().environment)
        )
    render_rehearsal(
        ("index", alias, live, former, scope), lambda now: rehearse_index(get_store(), alias, scope, now=now),
        scope.environment, key="corpus-rehearsal",
    )  # fmt: skip


def roll_back(alias: str, live: str, former: str) -> None:
    """Roll back from the index that the visitor saw to the previous one."""

    def change() -> int:
        act = make_act(st.session_state[f"rollback-reason-{live}"], get_config().environment)
        return swap_index(get_store(), alias, former, act, expected=live, rollback=True)

    ui.record_change(change, effect=f"Readers follow within {ui.FLIP_SEEN_WITHIN_S} seconds.", place="index-swap")


def render_garbage() -> None:
    """Which indexes are unused, why the others stay, and the form that removes unused ones."""
    st.subheader("Clean up", anchor=False)
    keep = st.number_input("Indexes to keep besides the live ones", 0, 50, KEEP, key="corpus-keep")
    plan = plan_garbage(get_store(), keep=keep, now=datetime.now(UTC))
    ui.render_said("index-garbage")
    if plan.kept:
        with st.expander(f"{len(plan.kept)} stay"):
            st.text("\n".join(f"{kept.name}: {kept.reason}" for kept in plan.kept))
    if not plan.removable:
        st.caption("Nothing to remove.")
        return
    with st.form("garbage", clear_on_submit=True):
        st.text("\n".join(plan.removable))
        st.text_input("Reason", key="garbage-reason", max_chars=500)
        st.form_submit_button(
            f"Remove {len(plan.removable)}", on_click=remove, args=(keep,),
            **lock(Action.INDEX_REMOVE, get_config().environment),
        )  # fmt: skip


def remove(keep: int) -> None:
    """Remove unused indexes; one that went live or was used in the meantime stays."""
    try:
        act = make_act(st.session_state["garbage-reason"], get_config().environment)
        done = collect_garbage(get_store(), act, keep=keep)
    except QuarterdeckError as error:
        ui.tell(f"**Nothing was changed** — {plain_error(error)}", kind="error", place="index-garbage")
        return
    removed = count_of(len(done.removable), "index", "indexes")
    names = f": {plain(', '.join(done.removable))}" if done.removable else ""
    ui.tell(f"Removed {removed}{names}.", kind="success", place="index-garbage")
