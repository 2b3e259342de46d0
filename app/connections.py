"""What is said where a source was never set up: that it is not connected, gray, and in two lines how to connect it."""

from dataclasses import dataclass

import streamlit as st

from app.looks import Mark, StatusLook
from app.navigation import link_to
from app.resources import get_config, get_store
from core.errors import NotConnected, QuarterdeckError, SourceUnavailable
from core.todo.connections import Source, is_unconnected

NOT_CONNECTED = StatusLook("Not connected", "gray", Mark.UNCONNECTED)


@dataclass(frozen=True, slots=True)
class Connecting:
    """How a source is connected: its name, one line that says what to do, and the command or setting for it."""

    name: str
    how: str
    command: str


CONNECTING = {
    Source.STORE: Connecting(
        "the store", "It is made by the first import, by your service, or with the demo's data:", "quarterdeck demo"
    ),
    Source.CORPUS: Connecting(
        "the corpus", "Name the git repository with your documents, and restart the server:",
        "export QUARTERDECK_CORPUS_REPO=/path/or/https://git.example.org/docs.git",
    ),
    Source.TRACKING: Connecting(
        "MLflow", "Name the server or database that your evaluations are logged to, and restart the server:",
        "export MLFLOW_TRACKING_URI=http://mlflow.example.org:5000",
    ),
}  # fmt: skip
SOURCES = {
    "drift": Source.STORE, "coverage": Source.STORE, "rollouts": Source.STORE, "prompts": Source.TRACKING,
    "corpus": Source.CORPUS,
}  # fmt: skip


def is_new(page: str) -> bool:
    """Whether what an area reads was never set up."""
    return is_unconnected(SOURCES[page], get_config(), get_store())


def find_unconnected(error: QuarterdeckError) -> Source | None:
    """The source that an error is about, if it was never set up; None for what used to work."""
    if not isinstance(error, SourceUnavailable):
        return None
    source = Source.STORE
    if isinstance(error, NotConnected):
        source = Source.TRACKING if "MLflow" in str(error) else Source.CORPUS
    return source if is_unconnected(source, get_config(), get_store()) else None


def render_connecting(source: Source) -> None:
    """The two lines."""
    connecting = CONNECTING[source]
    st.markdown(f"{NOT_CONNECTED.badge} Connect {connecting.name}. {connecting.how}")
    st.code(connecting.command, language=None, wrap_lines=True)
    link_to("overview", "All steps to the first data: Overview")
