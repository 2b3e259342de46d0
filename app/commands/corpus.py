"""The commands `corpus …`: corpus versions in git and DVC."""

import sys
from pathlib import Path

import click

from app.commands.common import common, open_corpus, show, show_progress, to_json
from core.config import Config


@click.group()
def corpus() -> None:
    """Browse the corpus versions in git and DVC."""


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
    """List the files that differ between two versions.

    Example: quarterdeck corpus diff v1 v2
    """
    diff = open_corpus(config).compare_versions(old, new)
    lines = [
        f"{c.kind:<9} {f'{c.old_path} -> ' if c.old_path and c.old_path != c.path else ''}{c.path}"
        for c in diff.changes
    ]
    show(as_json, diff, lines or ["no file differs"])


@corpus.command("verify")
@click.argument("revision")
@click.option("--remote", help="The DVC remote to fetch from (default: DVC's default remote).")
@common
def corpus_verify(config: Config, *, revision: str, remote: str | None, as_json: bool) -> None:
    """Fetch every file of a version from the remote to a temporary folder and verify it (exit code 1 on a mismatch).

    Example: quarterdeck corpus verify v2
    """
    report = open_corpus(config).verify_version(
        revision, remote=remote, on_progress=lambda done, total: show_progress("fetch", done, total)
    )
    lines = [f"damaged in the remote: {file.path} ({file.md5})" for file in report.damaged]
    lines += [f"missing from the remote: {file.path} ({file.md5})" for file in report.missing]
    where = f"of {report.files:,} files of {revision} in the remote {report.remote}"
    if report.is_whole:
        lines.append(f"Intact: each {where} matches its hash; {report.size_bytes:,} bytes were fetched.")
    else:
        lines.append(f"Not intact: {len(report.damaged):,} damaged and {len(report.missing):,} missing {where}.")
    show(as_json, {**to_json(report), "is_whole": report.is_whole}, lines)
    if not report.is_whole:
        sys.exit(1)


@corpus.command("archive")
@click.argument("revision")
@click.argument("target", type=click.Path(path_type=Path))
@common
def corpus_archive(config: Config, *, revision: str, target: Path, as_json: bool) -> None:
    """Write all files of a version into the zip file TARGET.

    Example: quarterdeck corpus archive v1 v1.zip
    """
    written = open_corpus(config).archive(
        revision, target, on_progress=lambda done, total: show_progress("pack", done, total)
    )
    show(as_json, {"archive": str(written)}, [f"{written} holds {revision}"])
