"""The commands `corpus …`: the versions that git and DVC hold."""

import click

from app.commands.common import common, open_corpus, show
from core.config import Config


@click.group()
def corpus() -> None:
    """Browse the corpus versions that git and DVC hold."""


@corpus.command("versions")
@common
def corpus_versions(config: Config, *, as_json: bool) -> None:
    """List the versions of the corpus, newest first.

    Example: quarterdeck corpus versions
    """
    versions = open_corpus(config).list_versions()
    lines = [
        f"{v.name:<12} {v.committed:%Y-%m-%d}  {v.files:>6} files  {v.size_bytes:>10} B  {v.message}" for v in versions
    ]
    show(as_json, versions, lines)


@corpus.command("files")
@click.argument("revision")
@common
def corpus_files(config: Config, *, revision: str, as_json: bool) -> None:
    """List the files of one version.

    Example: quarterdeck corpus files v1
    """
    files = open_corpus(config).list_files(revision)
    show(as_json, files, [f"{file.md5}  {file.path}" for file in files])


@corpus.command("diff")
@click.argument("old")
@click.argument("new")
@common
def corpus_diff(config: Config, *, old: str, new: str, as_json: bool) -> None:
    """Tell which files differ between two versions.

    Example: quarterdeck corpus diff v1 v2
    """
    diff = open_corpus(config).compare_versions(old, new)
    lines = [
        f"{c.kind:<9} {f'{c.old_path} -> ' if c.old_path and c.old_path != c.path else ''}{c.path}"
        for c in diff.changes
    ]
    show(as_json, diff, lines or ["no file differs"])
