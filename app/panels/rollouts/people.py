"""People and roles on the requests tab: who may change an environment, alone or with a second person, and the roles."""

import streamlit as st

from app import ui
from app.resources import get_config, get_store, load_grants
from app.text import plain
from app.visitor import get_visitor, lock, make_act
from core.access.roles import grant_role, revoke_role
from core.approvals.people import HeldRole, list_held_roles
from core.audit.actions import Action
from core.audit.permissions import EVERYWHERE, Grant, Role

NO_ROLE = "no role"
NOBODY_SIGNS_IN = "Nobody signs in here, so roles decide nothing yet: everybody who reaches this deck acts as {} ({})."
_SAID = "people-roles"


def render_people(environment: str) -> None:
    """Draw who may change what users get here, and the form that gives and takes roles."""
    held = list_held_roles(get_store(), environment)
    st.markdown(f"**People and roles:** {say_held_roles(held, environment)}")
    if get_config().access.is_local:
        visitor = get_visitor()
        st.caption(plain(NOBODY_SIGNS_IN.format(visitor.name, visitor.roles.role_in(environment))))
    if held:
        ui.show_table([_row(each) for each in held], key="people-table", file_name="people.csv")
    render_role_form(environment)
    ui.render_said(_SAID)


def say_held_roles(held: tuple[HeldRole, ...], environment: str) -> str:
    """The sentence about how many may change something, and how many of them need somebody else."""
    changing = [each for each in held if each.may_change]
    if not changing:
        return f"nobody holds a role to change {plain(environment)}."
    waiting = sum(not each.alone for each in changing)
    counted = f"{len(changing)} {'name' if len(changing) == 1 else 'names'} may change {plain(environment)}"
    return f"{counted}, {waiting or 'none'} of them only with a second person."


def render_role_form(environment: str) -> None:
    """The form that gives a role, replaces it, or takes it away."""
    with st.expander("Give or take a role"), st.form("role-form", border=False):
        st.text_input("Who", key="role-who", max_chars=200, help="A name as people sign in, group:NAME or everyone.")
        st.selectbox("Role", [*map(str, Role), NO_ROLE], key="role-role")
        places = [environment, EVERYWHERE]
        st.selectbox("Where", places, key=f"role-place-{environment}", format_func=_say_place)
        st.toggle("May read what users asked", value=True, key="role-questions")
        st.text_input("Reason", key="role-reason", max_chars=500)
        locked = lock(Action.ROLE_GRANT, environment)
        st.form_submit_button("Save the role", on_click=save_role, args=(environment,), **locked)


def save_role(environment: str) -> None:
    """Give or take the role that the form describes."""

    def change() -> int:
        state, store = st.session_state, get_store()
        who, place = state["role-who"].strip(), state[f"role-place-{environment}"]
        by = make_act(state["role-reason"], place)
        if state["role-role"] == NO_ROLE:
            return revoke_role(store, who, place, by)
        return grant_role(store, Grant(who, Role(state["role-role"]), place, questions=state["role-questions"]), by)

    ui.record_change(change, place=_SAID, offers_undo=False, forget=load_grants.clear)


def _say_place(place: str) -> str:
    return "everywhere" if place == EVERYWHERE else place


def _row(held: HeldRole) -> dict[str, object]:
    changes = "no" if not held.may_change else "alone" if held.alone else "with a second person"
    return {
        "who": held.who, "role": str(held.role or "by a group, or none"), "where": _say_place(held.place),
        "changes": changes, "reads questions": held.questions,
    }  # fmt: skip
