"""Rule: who may do what. Holds the roles, and the one table that says which role each change needs.

`acts.changing` asks it before every change; pages ask it to explain why a control is locked.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from core.audit.actions import Action
from core.errors import Forbidden, InvalidInput

EVERYWHERE = "*"
EVERYONE = "everyone"
GROUP = "group:"
MAX_NAME = 200


class Role(StrEnum):
    """A role in an environment; each role includes those before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role is at least the required one."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}

# One row per change, by its action in the audit trail. An action missing here needs an admin, and a test fails.
NEEDS = {
    Action.FLAG_CREATE: Role.EDITOR,
    Action.FLAG_UPDATE: Role.EDITOR,
    Action.FLAG_DELETE: Role.EDITOR,
    Action.CANARY_PROMOTE: Role.EDITOR,
    Action.CANARY_ROLLBACK: Role.EDITOR,
    Action.EXPERIMENT_START: Role.EDITOR,
    Action.EXPERIMENT_STOP: Role.EDITOR,
    Action.EXPERIMENT_DECIDE: Role.EDITOR,
    Action.LAYER_CREATE: Role.EDITOR,
    Action.LAYER_REMOVE: Role.EDITOR,
    Action.HOLDOUT_START: Role.EDITOR,
    Action.HOLDOUT_END: Role.EDITOR,
    Action.SCHEDULE_CREATE: Role.EDITOR,
    Action.SCHEDULE_PAUSE: Role.EDITOR,
    Action.SCHEDULE_RESUME: Role.EDITOR,
    Action.SCHEDULE_CANCEL: Role.EDITOR,
    Action.TOPIC_MARK: Role.EDITOR,
    Action.TOPIC_RENAME: Role.EDITOR,
    Action.TOPIC_SUMMARIZE: Role.EDITOR,
    Action.TOPIC_EXCLUDE: Role.EDITOR,
    Action.TOPIC_INCLUDE: Role.EDITOR,
    Action.TOPIC_EXPORT: Role.EDITOR,
    Action.DRIFT_ACCEPT: Role.EDITOR,
    Action.DRIFT_MAP: Role.EDITOR,
    Action.PREDICTION_SAVE: Role.EDITOR,
    Action.LEDGER_PREDICT: Role.EDITOR,
    Action.LEDGER_MEASURE: Role.EDITOR,
    Action.REPLAY_SAVE: Role.EDITOR,
    Action.ALERT_SAVE: Role.ADMIN,  # decides who is told what
    Action.ALERT_DELETE: Role.ADMIN,
    Action.ALERT_SNOOZE: Role.EDITOR,
    Action.ALERT_RESOLVE: Role.EDITOR,
    Action.ALERT_CHANNEL: Role.ADMIN,  # the server calls the address that a channel names
    Action.ALERT_CHANNEL_DELETE: Role.ADMIN,
    Action.ALERT_TEST: Role.ADMIN,
    Action.ALERT_RESEND: Role.ADMIN,
    Action.INDEX_REGISTER: Role.EDITOR,
    Action.INDEX_SWAP: Role.EDITOR,
    Action.PROBE_SAVE: Role.EDITOR,
    Action.JOB_START: Role.EDITOR,
    Action.JOB_CANCEL: Role.EDITOR,
    Action.INDEX_RETIRE: Role.ADMIN,
    Action.INDEX_REMOVE: Role.ADMIN,
    Action.LOG_PURGE: Role.ADMIN,
    Action.LOG_ERASE: Role.ADMIN,
    Action.TOKEN_CREATE: Role.ADMIN,
    Action.TOKEN_REVOKE: Role.ADMIN,
    Action.ENVIRONMENT_ADD: Role.ADMIN,
    Action.DEPLOYMENT_START: Role.ADMIN,  # runs a command on the server's machine
    Action.DEPLOYMENT_FAIL: Role.ADMIN,
    Action.DEPLOYMENT_SWITCH: Role.EDITOR,
    Action.DEPLOYMENT_ROLLBACK: Role.EDITOR,
    Action.DEPLOYMENT_TEARDOWN: Role.EDITOR,
    Action.DEPLOYMENT_RESUME: Role.EDITOR,
    Action.STORE_RESTORE: Role.ADMIN,
    Action.PROMPT_MAP: Role.EDITOR,
    Action.PROMPT_PROMOTE: Role.EDITOR,
    Action.PROMPT_ROLLBACK: Role.EDITOR,
    Action.ROLE_GRANT: Role.ADMIN,
    Action.ROLE_REVOKE: Role.ADMIN,
    Action.SESSION_END: Role.ADMIN,
    Action.SERVICE_SET: Role.ADMIN,
    Action.SERVICE_RENAME: Role.ADMIN,
    Action.SERVICE_MERGE: Role.ADMIN,
    Action.SERVICE_RELEARN: Role.ADMIN,
    Action.QUESTION_JUDGE: Role.EDITOR,
    Action.VIEW_SAVE: Role.EDITOR,
    Action.VIEW_DELETE: Role.EDITOR,
    Action.REVIEW_CREATE: Role.EDITOR,
    Action.REVIEW_LABEL: Role.EDITOR,
    Action.REVIEW_CLOSE: Role.EDITOR,
    Action.CASE_ADD: Role.EDITOR,
    Action.CASE_CHANGE: Role.EDITOR,
    Action.CASE_REMOVE: Role.EDITOR,
    Action.CASE_RESTORE: Role.EDITOR,
    Action.CASE_IMPORT: Role.EDITOR,
    Action.CASE_GOLDEN: Role.EDITOR,
    Action.TODO_SNOOZE: Role.EDITOR,
    Action.TODO_WAKE: Role.EDITOR,
    Action.APPROVAL_POLICY: Role.ADMIN,
    Action.APPROVAL_REQUEST: Role.EDITOR,
    Action.APPROVAL_PROPOSE: Role.EDITOR,
    Action.APPROVAL_AMEND: Role.EDITOR,
    Action.APPROVAL_GRANT: Role.EDITOR,
    Action.APPROVAL_REJECT: Role.EDITOR,
    Action.APPROVAL_WITHDRAW: Role.EDITOR,
    Action.METRIC_ADD: Role.EDITOR,
    Action.METRIC_REMOVE: Role.EDITOR,
}

# What all environments share needs a role held everywhere: an editor of staging cannot swap anybody's live index.
SHARED = frozenset(
    {
        Action.INDEX_REGISTER, Action.INDEX_SWAP, Action.INDEX_RETIRE, Action.INDEX_REMOVE, Action.PROBE_SAVE,
        Action.JOB_START, Action.JOB_CANCEL, Action.LOG_PURGE, Action.LOG_ERASE, Action.ENVIRONMENT_ADD,
        Action.SERVICE_SET, Action.STORE_RESTORE, Action.PROMPT_PROMOTE, Action.PROMPT_ROLLBACK, Action.PROMPT_MAP,
        Action.SESSION_END, Action.CASE_ADD, Action.CASE_CHANGE, Action.CASE_REMOVE, Action.CASE_RESTORE,
        Action.CASE_IMPORT, Action.CASE_GOLDEN,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grant:
    """A role for somebody (`who`: a name, `group:NAME` or `everyone`), in one environment or everywhere (`*`).

    `questions` says whether it includes reading what users asked; without it, pages show counts only.

    Raises InvalidInput for an invalid name or environment.
    """

    who: str
    role: Role
    environment: str = EVERYWHERE
    questions: bool = True

    def __post_init__(self) -> None:
        for field, value in (("who", self.who), ("environment", self.environment)):
            if not is_name(value.removeprefix(GROUP)):
                raise InvalidInput(field, f"must be 1 to {MAX_NAME} printable characters, without spaces at the ends")


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of one person: pairs of environment (`*` for everywhere) and role.

    `readers` are the environments (or `*`) whose questions the person may read. `shared` is a role for nothing but
    what all environments share (`SHARED`), which a token may have without a role in other environments.
    """

    held: tuple[tuple[str, Role], ...] = ()
    readers: tuple[str, ...] = ()
    shared: Role | None = None

    def role_in(self, environment: str) -> Role | None:
        """Return the highest role in an environment, or None."""
        found = [role for where, role in self.held if where in (EVERYWHERE, environment)]
        return max(found, key=_RANKS.__getitem__, default=None)


def hold_everywhere(role: Role) -> Roles:
    """Return one role in every environment."""
    return Roles(((EVERYWHERE, role),), (EVERYWHERE,))


ADMIN_EVERYWHERE = hold_everywhere(Role.ADMIN)


def combine_grants(grants: Iterable[Grant], name: str, groups: Iterable[str] = ()) -> Roles:
    """Return the roles of the person `name` in these groups; grants add up. `fold_name` says which names are equal."""
    own = {fold_name(name), EVERYONE} | {fold_name(f"{GROUP}{group}") for group in groups}
    held = [grant for grant in grants if fold_name(grant.who) in own]
    readers = tuple(grant.environment for grant in held if grant.questions)
    return Roles(tuple((grant.environment, grant.role) for grant in held), readers)


def may_read_questions(roles: Roles, environment: str) -> bool:
    """Whether these roles allow reading what users asked in an environment (`*`: in all of them)."""
    return EVERYWHERE in roles.readers or environment in roles.readers


def list_readable(roles: Roles) -> tuple[str, ...] | None:
    """Return the environments whose audit entries these roles may read; None for every entry.

    Entries that concern every environment (`*`) need a role that is held everywhere.
    """
    return None if roles.role_in(EVERYWHERE) else tuple(sorted({environment for environment, _ in roles.held}))


def fold_name(text: str) -> str:
    """Return a name for comparison: ASCII letters in lower case, every other letter as it is."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def fold_person(name: str) -> str:
    """Return a name for telling people apart: names that differ in case, accents' encoding or spaces are one person.

    Wider than `fold_name`, which gives rights: whoever may be the same person cannot approve what that person asked.
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def is_name(text: str) -> bool:
    """Whether this is a valid name of a person, a group or an environment."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def is_personal_name(text: str) -> bool:
    """Whether this is a valid name of a person, which no grant reads as a group or everyone."""
    lowered = fold_name(text)
    return is_own_name(text) and lowered != EVERYONE and not lowered.startswith(GROUP)


def is_own_name(text: str) -> bool:
    """Whether a provider's name for somebody is unambiguous: no letter that NFKC would replace, as it does ſ by s."""
    return is_name(text) and unicodedata.normalize("NFKC", text) == text


def explain_refusal(roles: Roles, action: Action, environment: str) -> str:
    """Return in one sentence why these roles do not allow an action in an environment; "" if they do."""
    needed = NEEDS.get(action, Role.ADMIN)
    where = EVERYWHERE if action in SHARED else environment
    held = roles.role_in(where) or (roles.shared if action in SHARED else None)
    if held is not None and held.covers(needed):
        return ""
    place = "everywhere" if where == EVERYWHERE else f"in {where}"
    return f"{action} requires the role {needed} {place}; you have {held or 'none'}. Ask an admin."


def check_allowed(roles: Roles, action: Action, environment: str) -> None:
    """Raise Forbidden unless these roles allow an action in an environment."""
    if refusal := explain_refusal(roles, action, environment):
        raise Forbidden(refusal)


def check_may_change(roles: Roles, environment: str) -> None:
    """Raise Forbidden unless these roles allow some change in an environment."""
    held = roles.role_in(environment)
    if held is None or not held.covers(Role.EDITOR):
        place = "everywhere" if environment == EVERYWHERE else f"in {environment}"
        raise Forbidden(f"a change requires the role {Role.EDITOR} {place}; you have {held or 'none'}. Ask an admin.")
