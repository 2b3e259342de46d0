"""The command `import-scores`: judgments of retrievals, such as feedback, from a file."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from app.commands.common import common, open_store, redactor_of, show
from core.config import Config


@click.command("import-scores")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["csv", "parquet", "jsonl"]), help="Default: by the file's name.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="Read a field from another column.")
@click.option(
    "--timezone", metavar="ZONE", help="The zone of times without one, for example Europe/Berlin (default: UTC)."
)
@common
def import_scores_command(
    config: Config, *, file: Path, kind: str | None, mapping: tuple[str, ...], timezone: str | None, as_json: bool
) -> None:
    """Store the scores of a CSV, Parquet or JSON Lines file. Exit code 1 when some rows were refused.

    The columns are retrieval_id, name and value, and optionally comment, source, ts, service and environment. A score
    replaces an earlier one of the same name and source, so importing a file again changes nothing. Scores may come up
    to seven days before their retrievals.

    Example: quarterdeck import-scores ratings.csv --map retrieval_id=answer_id --map value=stars
    """
    from app.commands.log import parse_mapping
    from core.intake.importing import parse_zone
    from core.intake.score_files import SCORES, import_scores
    from core.intake.tables import TableFile

    report = import_scores(
        open_store(config, create=True),
        TableFile(file, kind=kind, mapping=parse_mapping(mapping), layout=SCORES),
        redact=redactor_of(config),
        now=datetime.now(UTC),
        zone=parse_zone(timezone) if timezone else None,
    )
    for note in report.notes:
        click.echo(note, err=True)
    lines = [f"{report.read:,} scores read, {report.stored:,} stored, {report.refused_count:,} refused"]
    if report.waiting:
        lines.append(f"{report.waiting:,} scores of the store wait for their retrievals")
    lines += [f"row {each.row}: {each.field}: {each.problem}" for each in report.refused]
    show(as_json, report, lines)
    if report.refused_count:
        sys.exit(1)
