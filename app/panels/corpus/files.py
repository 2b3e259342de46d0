"""The files of one corpus version: browse, search, preview, download, restore, verify."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.panels.corpus.resources import load_archive, load_files, load_notes, load_preview
from app.panels.corpus.versions import choose_revision
from app.panels.shared.jobs import render_command, start
from app.resources import get_config, get_corpus
from app.text import plain
from app.visitor import lock
from core.audit.actions import Action
from core.corpus.corpus import WORKSPACE
from core.corpus.folders import FolderEntry, add_sizes, find_first_folder, list_folder
from core.corpus.manifests import CorpusFile
from core.corpus.previews import MOST_BYTES, Preview, PreviewKind
from core.corpus.versions import Version
from core.wording.counts import count_of

_MOST_ROWS = 1_000
_MOST_DOWNLOAD_BYTES = 64_000_000


def render_files(versions: Sequence[Version]) -> None:
    """Draw the files of the chosen version: a folder or the search results, and one file."""
    corpus = get_corpus()
    columns = st.columns([1, 2, 1])
    with columns[0]:
        revision = choose_revision(
            "Version", versions, key="version", default=versions[0].name, workspace=corpus.root is not None
        )
    path = columns[1].text_input(
        "Folder or file", key="path", bind="query-params", placeholder="click a row, or type a path"
    ).strip("/ ")  # fmt: skip
    search = columns[2].text_input("Search in file names", key="search", bind="query-params").casefold()
    files = load_files(revision)
    for note in load_notes(revision):
        st.info(plain(note))
    chosen = next((file for file in files if file.path == path), None)
    left, right = st.columns([2, 3] if chosen else [1, 0.01])
    with left:
        render_listing(files, revision, folder=path.rpartition("/")[0] if chosen else path, search=search)
    if chosen:
        with right:
            render_file(revision, chosen)
    render_version(revision, files)


def render_listing(files: Sequence[CorpusFile], revision: str, *, folder: str, search: str) -> None:
    """One folder as a table, or the files whose path contains the search text."""
    if search:
        found = [file for file in files if search in file.path.casefold()]
        entries = [FolderEntry(file.path, file.path, False, 1, file.size_bytes, file.md5) for file in found]
        said = f"“{plain(search)}” is in the path of {len(found):,} of the {len(files):,} files of {plain(revision)}"
    else:
        first = find_first_folder(files)
        folder = folder or first
        entries = list(list_folder(files, folder))
        where = f"in {plain(folder)}/" if folder else f"in {plain(revision)}"
        count = sum(entry.files for entry in entries)
        said = f"{count_of(count, 'file')} {where}" if entries else f"There is no {plain(folder)} in {plain(revision)}"
        if folder != first:
            entries = [FolderEntry(folder.rpartition("/")[0], "..", True, 0, None), *entries]
    cut = f"; the first {_MOST_ROWS:,} are listed" if len(entries) > _MOST_ROWS else ""
    st.caption(f"{said}{cut}. Click one to open it.")
    shown = entries[:_MOST_ROWS]
    key = f"corpus-files-{revision}-{folder}-{search}"
    ui.show_table(
        [
            {"file": f"{entry.name}/" if entry.is_folder else entry.name, "files": entry.files or None,
             "size": entry.size_bytes, "md5": entry.md5 or None}
            for entry in shown
        ],
        key=key, file_name=f"files-{revision}.csv", height=420 if len(shown) > 12 else "auto",
        column_config={"size": st.column_config.NumberColumn(format="bytes")},
        on_select=partial(follow_click, key, shown), selection_mode="single-row",
    )  # fmt: skip


def follow_click(key: str, shown: Sequence[FolderEntry]) -> None:
    """Open the clicked row: list a folder, show a file."""
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(shown):
        st.session_state["path"] = shown[rows[0]].path
        if shown[rows[0]].is_folder:
            st.session_state["search"] = ""


def render_file(revision: str, file: CorpusFile) -> None:
    """One file: what it is, its download, how to restore it, and what is in it."""
    st.subheader(plain(file.path), anchor=False)
    st.caption(f"{ui.format_bytes(file.size_bytes)} · md5 {file.md5}")
    corpus = get_corpus()
    if (file.size_bytes or 0) <= _MOST_DOWNLOAD_BYTES:
        offer_file(
            "Download", lambda _roles: corpus.read_file(revision, file.path, most_bytes=_MOST_DOWNLOAD_BYTES),
            file.path.rpartition("/")[2], key="corpus-file", type="secondary",
        )  # fmt: skip
    if revision != WORKSPACE:
        with st.expander("Restore this file"):
            st.code(corpus.restore_file_command(revision, file.path), language=None, wrap_lines=True)
    if (file.size_bytes or 0) > MOST_BYTES:
        st.info(f"Files over {ui.format_bytes(MOST_BYTES)} are not shown here.")
        return
    with ui.showing_errors("The file could not be read"):
        render_preview(load_preview(revision, file.path), file.path)


def render_preview(preview: Preview, path: str) -> None:
    """The preview of a file."""
    if preview.kind is PreviewKind.NONE:
        st.info(plain(preview.note))
        return
    with st.container(border=True, height=520):
        if preview.kind is PreviewKind.MARKDOWN:
            st.markdown(preview.text)
        elif preview.kind is PreviewKind.PICTURE:
            st.image(preview.content, alt=path)
        elif preview.kind is PreviewKind.PDF:
            st.pdf(preview.content, height=480, alt=path, key=f"corpus-pdf-{path}")
        else:
            st.code(preview.text, language=None, wrap_lines=True)
    if preview.note:
        st.caption(plain(preview.note))


def render_version(revision: str, files: Sequence[CorpusFile]) -> None:
    """The whole version: how to restore it, as an archive, and whether the remote still has all of it."""
    size_bytes = add_sizes(files)
    st.subheader(f"All of {plain(revision)}", anchor=False)
    st.caption(f"{count_of(len(files), 'file')}, {ui.format_bytes(size_bytes)}. Restore these in a clone with:")
    corpus = get_corpus()
    if revision == WORKSPACE:
        st.info("The working copy has nothing to restore: commit it first.")
    else:
        st.code("\n".join(corpus.restore_commands(revision)), language=None)
    if (size_bytes or 0) <= _MOST_DOWNLOAD_BYTES:
        offer_file(
            "Download as an archive", lambda _roles: load_archive(revision), f"{_file_name(revision)}.zip",
            "application/zip", key="corpus-archive", type="secondary",
        )  # fmt: skip
    else:
        st.caption(f"More than {ui.format_bytes(_MOST_DOWNLOAD_BYTES)} are not packed for a browser. On the server:")
        st.code(f"quarterdeck corpus archive {revision} {_file_name(revision)}.zip", language=None)
    if revision != WORKSPACE:
        render_verify(revision)


def render_verify(revision: str) -> None:
    """The button that verifies the version against its remote, and the job's status."""
    st.button(
        "Verify", key="corpus-verify", on_click=verify, args=(revision,),
        **{"help": "Fetches every file of this version from the remote into a temporary place and checks its hash.",
           **lock(Action.JOB_START, get_config().environment)},
    )  # fmt: skip
    render_command("verify", "Verify")


def verify(revision: str) -> None:
    """Start the check. Runs before the page is drawn."""
    start("verify", "corpus", "verify", revision, subject=revision, reason="is the remote complete?")


def _file_name(revision: str) -> str:
    return (
        "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in revision).strip(".-") or "corpus"
    )
