"""The button that makes evaluation cases of one question or of a selection."""

from collections.abc import Sequence

from app.panels.questions.resources import load_case_proposals
from app.panels.shared.cases import render_adding
from core.cases.proposals import MOST_AT_ONCE
from core.log.filters import LoggedQuestion


def render_add_to_cases(questions: Sequence[LoggedQuestion], threshold: float, environment: str, *, key: str) -> None:
    """Draw “Add to cases” for these questions; nothing for those whose texts were removed."""
    having = tuple(each for each in questions if each.query)[:MOST_AT_ONCE]
    if not having:
        return
    names = tuple((each.environment, each.service, each.retrieval_id) for each in having)
    several = f" ({len(having)})" if len(having) > 1 else ""
    render_adding(
        f"questions-{key}",
        f"Add to cases{several}",
        lambda name, version: load_case_proposals(names, name, version, threshold, having),
        environment,
    )
