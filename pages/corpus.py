"""Corpus: which version is live, what is newer, and what it would fix."""

from collections.abc import Callable, Sequence

from app import ui
from app.panels.corpus.differences import render_differences
from app.panels.corpus.documents import render_documents
from app.panels.corpus.files import render_files
from app.panels.corpus.indexes import render_indexes
from app.panels.corpus.pipeline import render_pipeline
from app.panels.corpus.prediction import render_prediction
from app.panels.corpus.replay_changes import render_changes
from app.panels.corpus.resources import load_versions
from app.panels.corpus.versions import list_live, render_versions
from app.resources import get_corpus, get_store, list_environments, list_services
from app.text import plain
from app.views import draw_views
from core.corpus.versions import Version
from core.indexes.registry import Alias, Index, list_aliases, list_indexes

_TABS = {
    "Versions": ("Versions", "Diff"),
    "Files": ("Files",),
    "Documents": ("Documents",),
    "Indexes": ("Indexes", "Pipeline"),
    "What would it fix?": ("What would it fix?", "Replay"),
}
_VIEW_NAMES = {
    "Versions": "All versions", "Diff": "Compare two", "What would it fix?": "A newer version", "Replay": "Any change",
}  # fmt: skip
_NOT_LIVE = ui.StatusLook("Not live", "gray", ui.Mark.UNKNOWN)


def say_what_is_live(
    versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[Alias]
) -> tuple[str, ui.StatusLook]:
    """The sentence at the top: what is live, how old it is, what is newer."""
    newest = versions[0]
    known = next((version for version in versions if list_live(version, indexes, aliases)), None)
    if known is None:
        return f"No version is live; the newest is {plain(newest.name)}.", _NOT_LIVE
    age = f"{plain(known.name)} is live (committed {ui.format_ago(known.committed)})"
    if known.revision == newest.revision:
        return f"{age}, and it is the newest.", ui.StatusLook("Up to date", "green", ui.Mark.FINE)
    counts = get_corpus().count_changes(known.revision, newest.revision)
    told = [f"{n:,} {what}" for n, what in zip(counts, ("added", "removed", "modified", "renamed"), strict=True) if n]
    changes = ", ".join(told) or ("unknown changes" if None in counts else "the same files")
    return f"{age}; {plain(newest.name)} is newer (files: {changes}).", ui.StatusLook(
        "Newer version waits", "orange", ui.Mark.DECIDE
    )


def render() -> None:
    """The page, once the repository could be read."""
    versions = load_versions()
    if not versions:
        ui.render_empty(
            "The repository tracks no data with DVC yet.", "dvc add corpus && git commit -m 'Track the corpus'"
        )
        return
    indexes: tuple[Index, ...] = ()
    aliases: tuple[Alias, ...] = ()
    with ui.showing_errors("The index aliases could not be read"):
        indexes, aliases = list_indexes(get_store()), list_aliases(get_store())
    ui.render_verdict(*say_what_is_live(versions, indexes, aliases))
    panels: dict[str, tuple[str, Callable[[], None]]] = {
        "Versions": ("The versions could not be drawn", lambda: render_versions(versions, indexes, aliases)),
        "Files": ("The files could not be listed", lambda: render_files(versions)),
        "Diff": ("The versions could not be compared", lambda: render_differences(versions)),
        "Documents": (
            "The documents could not be added up",
            lambda: render_documents(frame.scope, frame.today),
        ),
        "Pipeline": ("The pipeline could not be read", render_pipeline),
        "Indexes": ("The indexes could not be read", lambda: render_indexes(versions, indexes, aliases, frame.scope)),
        "Replay": (
            "The replays could not be read",
            lambda: render_changes(
                versions, indexes, {alias.alias: alias.index_name for alias in aliases}, frame.scope
            ),
        ),
        "What would it fix?": (
            "The prediction could not be read",
            lambda: render_prediction(versions, indexes, aliases, frame.scope),
        ),
    }
    draw_views(_TABS, panels, names=_VIEW_NAMES)


frame = ui.render_frame("Corpus", environments=list_environments(), services=list_services(), ranges=False)
with ui.showing_errors("The corpus could not be read"):
    render()
