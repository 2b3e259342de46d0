"""Shell: reads registered prompts with the settings of the run that evaluated them, as a prompt file holds them."""

import re

from core.errors import InvalidInput
from core.prompts.prompts import Prompt
from core.tracking.gateway import Tracking
from core.tracking.runs import PromptVersion

_URI = re.compile(r"prompts:/+([^/@\s]+)/(\d{1,9})")
_USUAL = Prompt("", "", "", "", top_k=3, max_sentences=3, refuse_below=None)


def is_registered_uri(text: str) -> bool:
    """Whether a text names a registered version, as MLflow does: prompts:/qa/3."""
    return text.startswith("prompts:/")


def read_registered_prompt(tracking: Tracking, uri: str) -> Prompt:
    """Return the registered version that MLflow's address names. Raises InvalidInput and NotFound."""
    found = _URI.fullmatch(uri)
    if not found:
        raise InvalidInput("prompt", f"must be a file, or a registered version such as prompts:/qa/3, not {uri!r}")
    version = tracking.get_prompt(found[1], int(found[2]))
    for name in ("context", "question"):
        if f"{{{name}}}" not in version.text:
            raise InvalidInput(uri, f"its text has no {{{name}}}, so it cannot be filled in")
    return settle_prompt(tracking, version)


def settle_prompt(tracking: Tracking, version: PromptVersion, usual: Prompt = _USUAL) -> Prompt:
    """Return a registered version with the settings of its newest run; without a run, with the `usual` ones."""
    params = dict(tracking.get_run(version.run_ids[-1]).params) if version.run_ids else {}
    refuse = params.get("refuse_below", "never" if usual.refuse_below is None else str(usual.refuse_below))
    try:
        return Prompt(
            name=version.name,
            version=params.get("version") or version.tags.get("version") or str(version.version),
            description=version.commit_message,
            text=version.text,
            top_k=int(params.get("top_k", usual.top_k)),
            max_sentences=int(params.get("max_sentences", usual.max_sentences)),
            refuse_below=None if refuse == "never" else float(refuse),
        )
    except ValueError as error:
        raise InvalidInput(f"run {version.run_ids[-1]}", f"has settings that are no numbers: {error}") from error
