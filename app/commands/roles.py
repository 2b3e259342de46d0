"""The commands `roles …`: who may view, edit and administer, and in which environment."""

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.audit.permissions import EVERYWHERE, Grant, Role
from core.config import Config

_environment_option = click.option(
    "--in", "place", default=EVERYWHERE, show_default=True, metavar="ENVIRONMENT", help="One environment only."
)
_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")


@click.group()
def roles() -> None:
    """Manage who may view, edit and administer. Roles apply to people who sign in or come through the proxy."""


@roles.command("list")
@common
def roles_list(config: Config, *, as_json: bool) -> None:
    """List who holds which role.

    Example: quarterdeck roles list
    """
    from core.access.roles import list_grants

    grants = list_grants(open_store(config))
    lines = [f"{grant.who:<36} {grant.role:<8} {_place(grant.environment)}{_describe(grant)}" for grant in grants]
    show(as_json, grants, lines or ["no roles yet; quarterdeck roles grant NAME admin --reason WHY gives the first"])


@roles.command("grant")
@click.argument("who")
@click.argument("role", type=click.Choice([str(role) for role in Role]))
@_environment_option
@click.option("--without-questions", is_flag=True, help="The role may not read what users asked: counts only.")
@_reason_option
@common
def roles_grant(
    config: Config, *, who: str, role: str, place: str, without_questions: bool, reason: str, as_json: bool
) -> None:
    """Give WHO (a name, group:NAME or everyone) a role, in place of the one held there.

    Grants add up: whoever may read questions by one of them may read them.

    Example: quarterdeck roles grant group:rag-team editor --in staging --reason "they run it"
    """
    from core.access.roles import grant_role

    act = Act(config.operator, reason, config.environment)
    grant = Grant(who, Role(role), place, questions=not without_questions)
    entry = grant_role(open_store(config, create=True), grant, act)
    show(as_json, {"entry": entry}, [f"{who} is {role} {_place(place)}{_describe(grant)} (audit entry {entry})"])


@roles.command("revoke")
@click.argument("who")
@_environment_option
@_reason_option
@common
def roles_revoke(config: Config, *, who: str, place: str, reason: str, as_json: bool) -> None:
    """Take away the role that WHO holds there.

    Example: quarterdeck roles revoke ada@example.org --reason "left the team"
    """
    from core.access.roles import revoke_role

    act = Act(config.operator, reason, config.environment)
    entry = revoke_role(open_store(config), who, place, act)
    show(as_json, {"entry": entry}, [f"{who} holds no role {_place(place)} any more (audit entry {entry})"])


@roles.command("sign-out")
@click.argument("who")
@_reason_option
@common
def roles_sign_out(config: Config, *, who: str, reason: str, as_json: bool) -> None:
    """End every session of WHO, on every server and in every browser: for a lost laptop, or a copied cookie.

    Whoever still has an account at the provider can sign in again; `roles revoke` takes their role away.

    Example: quarterdeck roles sign-out ada@example.org --reason "her laptop was stolen"
    """
    from core.access.roles import end_sign_ins

    entry = end_sign_ins(open_store(config), who, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"{who} is signed out everywhere (audit entry {entry})"])


def _place(environment: str) -> str:
    return "everywhere" if environment == EVERYWHERE else f"in {environment}"


def _describe(grant: Grant) -> str:
    return "" if grant.questions else ", without questions"
