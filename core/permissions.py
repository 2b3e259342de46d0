"""Who may do what: the roles, and the one table that says which change needs which. A rule: values in, a verdict out.

`acts.changing` asks it before every change, pages ask it to say why a control is locked.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from core.errors import Forbidden, InvalidInput

EVERYWHERE = "*"
EVERYONE = "everyone"
GROUP = "group:"
MAX_NAME = 200


class Role(StrEnum):
    """What somebody may do in an environment; each role may do what those before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        """Whether this role is at least the one needed."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {role: rank for rank, role in enumerate(Role)}

# One row a change, by the name it has in the audit trail. What is missing here only an admin may do, and a test fails.
NEEDS = {
    "flag.create": Role.EDITOR,
    "flag.update": Role.EDITOR,
    "flag.delete": Role.EDITOR,
    "canary.promote": Role.EDITOR,
    "canary.rollback": Role.EDITOR,
    "experiment.start": Role.EDITOR,
    "experiment.stop": Role.EDITOR,
    "experiment.decide": Role.EDITOR,
    "schedule.create": Role.EDITOR,
    "schedule.pause": Role.EDITOR,
    "schedule.resume": Role.EDITOR,
    "schedule.cancel": Role.EDITOR,
    "topic.mark": Role.EDITOR,
    "drift.accept": Role.EDITOR,
    "prediction.save": Role.EDITOR,
    "alert.save": Role.ADMIN,  # the server calls the address that a rule names
    "alert.delete": Role.ADMIN,
    "index.register": Role.EDITOR,
    "index.swap": Role.EDITOR,
    "probe.save": Role.EDITOR,
    "job.start": Role.EDITOR,
    "job.cancel": Role.EDITOR,
    "index.retire": Role.ADMIN,
    "index.remove": Role.ADMIN,
    "log.purge": Role.ADMIN,
    "token.create": Role.ADMIN,
    "token.revoke": Role.ADMIN,
    "environment.add": Role.ADMIN,
    "deployment.start": Role.ADMIN,  # runs a command on the server's machine
    "deployment.fail": Role.ADMIN,
    "deployment.switch": Role.EDITOR,
    "deployment.rollback": Role.EDITOR,
    "deployment.teardown": Role.EDITOR,
    "deployment.resume": Role.EDITOR,
    "store.restore": Role.ADMIN,
    "prompt.promote": Role.EDITOR,
    "prompt.rollback": Role.EDITOR,
    "role.grant": Role.ADMIN,
    "role.revoke": Role.ADMIN,
}

# What every environment shares takes a role that is held everywhere: an editor of staging swaps nobody's live index.
SHARED = frozenset(
    {
        "index.register", "index.swap", "index.retire", "index.remove", "probe.save", "job.start", "job.cancel",
        "log.purge", "environment.add", "store.restore", "prompt.promote",
        "prompt.rollback",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grant:
    """A role for somebody (`who`: a name, `group:NAME` or `everyone`), in one environment or everywhere (`*`).

    Raises InvalidInput for a name or an environment that nobody can have.
    """

    who: str
    role: Role
    environment: str = EVERYWHERE

    def __post_init__(self) -> None:
        for field, value in (("who", self.who), ("environment", self.environment)):
            if not is_name(value.removeprefix(GROUP)):
                raise InvalidInput(field, f"must be 1 to {MAX_NAME} printable characters, without spaces at the ends")


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles that one person holds: pairs of environment (`*` for everywhere) and role."""

    held: tuple[tuple[str, Role], ...] = ()

    def role_in(self, environment: str) -> Role | None:
        """Return the highest role held there, None for none."""
        found = [role for where, role in self.held if where in (EVERYWHERE, environment)]
        return max(found, key=_RANKS.__getitem__, default=None)


NOBODY = Roles()


def hold_everywhere(role: Role) -> Roles:
    """Return one role in every environment."""
    return Roles(((EVERYWHERE, role),))


ADMIN_EVERYWHERE = hold_everywhere(Role.ADMIN)


def combine_grants(grants: Iterable[Grant], name: str, groups: Iterable[str] = ()) -> Roles:
    """Return the roles of the person called `name` who is in these groups; grants add up. See `fold_name`."""
    own = {fold_name(name), EVERYONE} | {fold_name(f"{GROUP}{group}") for group in groups}
    return Roles(tuple((grant.environment, grant.role) for grant in grants if fold_name(grant.who) in own))


def list_readable(roles: Roles) -> tuple[str, ...] | None:
    """Return the environments whose entries of the audit trail these roles may read; None for every entry.

    What concerns every environment (`*`) takes a role that is held everywhere.
    """
    return None if roles.role_in(EVERYWHERE) else tuple(sorted({environment for environment, _ in roles.held}))


def fold_name(text: str) -> str:
    """Return a name to compare by: the capitals of ASCII do not matter, and no other letter stands for one."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def is_name(text: str) -> bool:
    """Whether somebody, a group or an environment can be called this."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def is_personal_name(text: str) -> bool:
    """Whether a person can be called this: a name that no grant takes for a group or for everyone."""
    lowered = fold_name(text)
    return is_own_name(text) and lowered != EVERYONE and not lowered.startswith(GROUP)


def is_own_name(text: str) -> bool:
    """Whether a name that a provider gives is its own: none of its letters stands for another, as ſ does for s."""
    return is_name(text) and unicodedata.normalize("NFKC", text) == text


def explain_refusal(roles: Roles, action: str, environment: str) -> str:
    """Return why these roles do not allow an action in an environment, as one sentence; "" when they do."""
    needed = NEEDS.get(action, Role.ADMIN)
    where = EVERYWHERE if action in SHARED else environment
    held = roles.role_in(where)
    if held is not None and held.covers(needed):
        return ""
    place = "everywhere" if where == EVERYWHERE else f"in {where}"
    return f"{action} takes the role {needed} {place}; you hold {held or 'none'}. Ask an admin."


def check_allowed(roles: Roles, action: str, environment: str) -> None:
    """Raise Forbidden when these roles do not allow an action in an environment."""
    if refusal := explain_refusal(roles, action, environment):
        raise Forbidden(refusal)


def check_may_change(roles: Roles, environment: str) -> None:
    """Raise Forbidden when these roles allow no change at all in an environment."""
    held = roles.role_in(environment)
    if held is None or not held.covers(Role.EDITOR):
        place = "everywhere" if environment == EVERYWHERE else f"in {environment}"
        raise Forbidden(f"a change takes the role {Role.EDITOR} {place}; you hold {held or 'none'}. Ask an admin.")
