"""The command `erase`: remove what is known about one user or one session."""

import dataclasses

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config


@click.command()
@click.option("--user", default="", metavar="ID", help="The user whose data is erased.")
@click.option("--session", default="", metavar="ID", help="The session whose data is erased, instead of a user.")
@click.option("--yes", is_flag=True, help="Erase. Without it, only the counts are shown.")
@click.option(
    "--reason", default="erasure request", show_default=True, help="Why: it goes into the audit trail, so name nobody."
)
@common
def erase(config: Config, *, user: str, session: str, yes: bool, reason: str, as_json: bool) -> None:
    """Erase a user's or a session's questions, scores, exposures, events and cached vectors, in every environment.

    Shows the counts first; --yes erases. The audit trail gets the SHA-256 of the id. Rollups stay: they hold no text.

    Example: quarterdeck erase --user user-42 --yes
    """
    from core.erasure import erase as erase_subject
    from core.erasure import hash_subject, preview_erasure
    from core.log.subjects import DataSubject

    store, subject = open_store(config), DataSubject(user_id=user, session_id=session)
    if yes:
        found = erase_subject(store, subject, Act(config.operator, reason, config.environment))
    else:
        found = preview_erasure(store, subject)
    counts = dataclasses.asdict(found)
    lines = [f"{count:>10,}  {name}" for name, count in counts.items()]
    lines.append("erased" if yes else "nothing is erased yet; add --yes to erase this")
    show(as_json, {**counts, "erased": yes, "sha256": hash_subject(subject)}, lines)
