"""The promotion on the prompts page: what would change for whom, the decision in words, and one click back."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.prompts.resources import load_comparison
from app.panels.shared.rehearsals import render_rehearsal
from app.resources import get_store, get_tracking
from app.text import plain
from app.visitor import lock, make_act
from core.arms.arms import Metric
from core.audit.actions import Action
from core.flags.store import Flag, list_flags
from core.prompts.contests import Contender, PromptComparison
from core.prompts.promotion import Serving, find_promotion, find_unfinished, promote, roll_back, suggest_flag
from core.rehearsals.report import rehearse_prompt
from core.rollouts.ramps import PlannedExperiment
from core.tracking.runs import PromptVersion

_PROMOTED, _ROLLED_BACK = "prompt-promote", "prompt-rollback"  # where outcomes are said
_FIRST_SHARE = 20.0
_EFFECT = 0.02  # of an experiment that starts with it


def render_promotion(found: PromptComparison, environment: str) -> None:
    """Draw what is in production, the rollback, and the form that promotes another version."""
    name = next((each.prompt.name for each in found.contenders if each.prompt), "")
    if not name:
        st.info("None of these runs is linked to a registered prompt: `quarterdeck eval` links the runs it makes.")
        return
    if unfinished := find_unfinished(get_store(), name):
        st.warning(plain(str(unfinished)))
    live = f"{plain(name)} {plain(found.production.label)}" if found.production else "nothing"
    st.markdown(f"In production: **{live}**.")
    render_roll_back(name, found.production, environment)
    ui.render_said(_ROLLED_BACK)
    waiting = [each for each in found.contenders if each.prompt and not _is_live(each.prompt, found.production)]
    if waiting:
        render_form(found, waiting, environment)
    else:
        st.caption("The compared runs have no other version; choose more under Runs.")
    ui.render_said(_PROMOTED)


def render_roll_back(name: str, live: PromptVersion | None, environment: str) -> None:
    """The one click back to what the last promotion replaced."""
    found = find_promotion(get_store(), name)
    if found is None:
        return
    entry = found.entry
    by = f"{plain(entry.actor)}, {ui.format_ago(entry.ts)}: {plain(ui.shorten(entry.reason, 200))}"
    brought = f"{found.promoted.partly} was brought to a part of the users" if found.promoted.partly else ""
    done = plain(brought or f"{found.promoted.name} was promoted")
    st.caption(f"{done} by {by}", help=ui.say_instant(entry.ts))
    if live is None or live.version != found.promoted.version:
        now = live.label if live else "none"
        st.warning(f"The alias “production” is at {plain(now)}: it was moved outside of this deck since.")
        return
    back_to = found.former.name
    options = lock(Action.PROMPT_ROLLBACK, environment)
    reason = f"rolled back to {back_to} on the page"
    args = (name, reason, environment)
    st.button(f"Roll back to {plain(back_to)}", key="prompts-rollback", on_click=take_back, args=args, **options)
    render_rehearsal(
        ("prompt", name, live.version), lambda now: rehearse_prompt(get_store(), name, now=now), environment,
        key="prompts-rehearsal",
    )  # fmt: skip


def render_form(found: PromptComparison, waiting: Sequence[Contender], environment: str) -> None:
    """The form: which run, which flag, for how many, and why."""
    labels = [each.label for each in waiting]
    ahead = next((at for at, each in enumerate(waiting) if each is found.winner), 0)
    chosen = st.selectbox("Promote the prompt of", labels, index=ahead, key="promote") or labels[ahead]
    contender = next(each for each in waiting if each.label == chosen)
    prompt = contender.prompt
    assert prompt is not None
    if found.winner is not contender:
        st.warning("By the rule above it has not won.")
    flags = list_flags(get_store(), environment)
    suggested = suggest_flag(flags, prompt)
    seen = contender.run.run_id
    with st.form(f"promote-{seen}"):
        left, right = st.columns(2)
        key = left.text_input("Flag that serves it (empty: none)", suggested, key=f"flag-{seen}", max_chars=100)
        right.number_input("Users who get it, %", 0.0, 100.0, _FIRST_SHARE, 1.0, format="%g", key=f"share-{seen}")
        left.text_input("Start an experiment on it named (empty: none)", key=f"then-{seen}", max_chars=100)
        right.selectbox(
            "Metric that decides it", [str(metric) for metric in Metric],
            list(Metric).index(Metric.FAITHFULNESS), key=f"then-metric-{seen}", help="Each user's mean counts once",
        )  # fmt: skip
        st.text_area(
            "Decision, kept at the run and in the audit trail", found.decision.reason if found.decision else "",
            key=f"decision-{seen}", max_chars=2_000,
        )  # fmt: skip
        st.caption(say_what_changes(found, prompt, flags, key))
        st.form_submit_button(
            f"Promote {plain(prompt.label)}", type="primary", on_click=save,
            args=(contender, found.production.version if found.production else None, environment),
            **lock(Action.PROMPT_PROMOTE, environment),
        )  # fmt: skip


def say_what_changes(found: PromptComparison, prompt: PromptVersion, flags: Sequence[Flag], key: str) -> str:
    """In one sentence: what the promotion changes, and from what."""
    former, to = plain(found.production.label) if found.production else "nothing", plain(prompt.label)
    name = plain(prompt.name)
    said = f"At 100%, or without a flag, the alias “production” of {name} moves from {former} to {to}, and "
    said += f"{name}-release gets an entry. Below 100% it stays at {former}."
    flag = next((flag for flag in flags if flag.key == key), None)
    if flag is None:
        return f"{said} The flag {plain(key)} is made." if key else f"{said} No flag is set."
    now = flag.view.rollout_pct
    at = "off" if not flag.view.is_on else f"at {now:g}%" if now is not None else "on by rules"
    return f"{said} The flag {plain(key)} is {at} now."


def save(contender: Contender, expected: int | None, environment: str) -> None:
    """Promote what the form says. Runs before the page does, so that what is live is what the visitor saw."""
    seen, state = contender.run.run_id, st.session_state
    key = state[f"flag-{seen}"].strip()
    serving, name = Serving(key, state[f"share-{seen}"]) if key else None, state[f"then-{seen}"].strip()
    ui.record_change(
        lambda: promote(
            get_store(), get_tracking(), seen, make_act(state[f"decision-{seen}"], environment),
            serving=serving, expected=expected,
            then=PlannedExperiment(name, state[f"then-metric-{seen}"], _EFFECT) if name else None,
        ),
        effect="It can be rolled back above.", place=_PROMOTED,
    )  # fmt: skip
    load_comparison.clear()


def take_back(name: str, reason: str, environment: str) -> None:
    """Roll the last promotion back."""
    ui.record_change(
        lambda: roll_back(get_store(), get_tracking(), name, make_act(reason, environment)), place=_ROLLED_BACK
    )
    load_comparison.clear()


def _is_live(prompt: PromptVersion, live: PromptVersion | None) -> bool:
    return live is not None and (prompt.name, prompt.version) == (live.name, live.version)
