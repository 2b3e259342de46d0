"""The commands on the retrieval log: drift, topics, imports and purge."""

import csv
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import common, find_scope, open_store, redactor_of, service_option, settle_days, show, to_json
from core.audit.acts import Act
from core.config import PROJECT, Config
from core.errors import InvalidInput
from core.log.operations import forget_parts, purge_retrievals
from core.safety.spreadsheets import write_row
from core.wording.counts import count_of
from core.wording.scores import say_size

if TYPE_CHECKING:
    from core.coverage.report import Coverage
    from core.coverage.topics import Topic, Topics
    from core.drift.episodes import DatedEpisode
    from quarterdeck.store import Store

_WEIGHT = re.compile(r"^0*[1-9]\d{0,11}(?:\.0+)?")


@click.command()
@click.option(
    "--window-days", default=7, show_default=True, type=click.IntRange(1, 365), help="How many recent days to look at."
)
@click.option(
    "--baseline-days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 730),
    help="How many days before them to compare with.",
)
@click.option("--episodes", is_flag=True, help="List every drop and outage, day by day from the first row on.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The verdict at the end of this day, from rows up to then only.",
)
@service_option
@common
def drift(
    config: Config,
    *,
    window_days: int,
    baseline_days: int,
    episodes: bool,
    as_of: datetime | None,
    service: str | None,
    as_json: bool,
) -> None:
    """Report whether retrieval scores drift, since when, and what to do.

    With --episodes, every drop and outage in the order of its call: when it began, when it was called, when its end
    was noticed. A further drop inside an open one is an entry of its own.

    With --as-of, the verdict at the end of a former day.

    A drop that one segment carries names it: it is searched among all values of the service's dimensions, and in the
    JSON it is `segment`.

    Example: quarterdeck drift --window-days 7 --baseline-days 30 --json
    """
    from core.causes.changes import search_segments
    from core.causes.headline import describe_segments
    from core.drift.report import report_as_of, report_drift, report_episodes

    store = open_store(config)
    scope = find_scope(config, store, service)
    today = settle_days(store, scope)
    if episodes:
        end = min(today, as_of.date() + timedelta(days=1)) if as_of else today
        listed = report_episodes(store, scope=scope, today=end, baseline_days=baseline_days)
        show(as_json, listed, [describe_episode(each) for each in listed] or ["No drop and no outage so far."])
        return
    windows: dict[str, Any] = {"window_days": window_days, "baseline_days": baseline_days}
    if as_of:
        found = report_as_of(store, scope=scope, day=as_of.date(), today=today, **windows)
    else:
        found = report_drift(store, scope=scope, today=today, **windows)
    report, states = found.report, found.states
    over = today - timedelta(days=1)
    search = search_segments(store, found, today=min(as_of.date(), over) if as_of else over)
    place = describe_segments(search)
    told = {
        "environment": scope.environment,
        "service": scope.service,
        **to_json(report),
        "empty_share": states.share_of(states.empty),
        "unscored_share": states.share_of(states.unscored),
        "segment": to_json(search.found) if search.found else None,
        "segments_searched": search.searched,
    }
    show(
        as_json, told, [f"{report.status}: {report.reason}", *([place] if place else []), report.action, *report.notes]
    )


def describe_episode(episode: "DatedEpisode") -> str:
    """Return an episode in one line."""
    fell = f" by {say_size(episode.fall)}" if episode.fall is not None else ""
    end = f"over on {episode.ended_on}" if episode.ended_on else "still open"
    return f"{episode.kind}{fell} since {episode.changed_on}, called on {episode.called_on}, {end}"


@click.command()
@click.option("--clusters", default="auto", show_default=True, metavar="N|auto", help="How many topics to look for.")
@click.option(
    "--window-days", default=7, show_default=True, type=click.IntRange(1, 365), help="How many recent days to look at."
)
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Group the queries of this CSV instead.")
@click.option("--column", default="text", show_default=True, help="The CSV's column with the queries.")
@click.option("--weight", metavar="COLUMN", help="The CSV's column with how often each query was asked.")
@click.option("--assignments", type=click.Path(path_type=Path), help="Write the CSV with a column `cluster` here.")
@click.option("--summarize", metavar="MODEL", help="Let this model write titles and summaries, once for each topic.")
@click.option("--answerer", type=click.Choice(["openai", "anthropic"]), default="openai", help="The model's protocol.")
@click.option("--base-url", metavar="URL", help="Another server that speaks the protocol.")
@click.option("--max-cost-usd", type=float, default=0.10, show_default=True, help="Ask no more before it costs more.")
@service_option
@common
def topics(
    config: Config,
    *,
    clusters: str,
    window_days: int,
    input_path: Path | None,
    column: str,
    weight: str | None,
    assignments: Path | None,
    summarize: str | None,
    answerer: str,
    base_url: str | None,
    max_cost_usd: float,
    service: str | None,
    as_json: bool,
) -> None:
    """Group the low-scoring queries, or those of a CSV, into topics, largest first.

    Each line has the times asked, the share, the title (the most typical question) and keywords.

    Example: quarterdeck topics --clusters 3 --json
    """
    from core.coverage.judging import count_findings, list_shares
    from core.coverage.report import report_coverage
    from core.embedding.embed import Embedder
    from core.embedding.vectors import VectorCache

    wanted = _cluster_count(clusters)
    findings: dict[str, Any] = {}
    if input_path:
        if summarize:
            raise InvalidInput("summarize", "is about the topics of the log, not of a CSV")
        found = _group_csv(config, input_path, column, clusters=wanted, weight=weight, assignments=assignments)
    else:
        store = open_store(config)
        scope = find_scope(config, store, service)

        def read() -> "Coverage":
            return report_coverage(
                store,
                Embedder(config.embedding_model, cache=VectorCache(store)),
                scope=scope,
                today=settle_days(store, scope),
                clusters=wanted,
                window_days=window_days,
                low_score=config.low_score,
            )

        coverage = read()
        if summarize:
            model = (answerer, summarize, base_url)
            _summarize(store, coverage.topics, config, model=model, max_cost_usd=max_cost_usd)
            coverage = read()
        found, findings = coverage.topics, count_findings(store, coverage)
    rows = [
        {
            "cluster_id": t.cluster_id, "topic_id": t.topic_id, "label": t.label, "keywords": list(t.keywords),
            "count": t.count, "share": round(t.share, 4), "language": t.language,
            "sample_queries": list(t.sample_queries),
            "findings": {name: round(share, 4) for name, share in list_shares(findings.get(t.topic_id, {})).items()},
        }
        for t in found.topics
    ]  # fmt: skip
    lines = [f"{t.count:>6}  {t.share:>6.1%}  {t.label}  —  {_subtitle(t)}" for t in found.topics]
    click.echo(found.reason, err=True)
    show(as_json, rows, lines)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["csv", "parquet", "jsonl"]), help="Default: by the file's name.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="Read a field from another column.")
@click.option(
    "--timezone", metavar="ZONE", help="The zone of times without one, for example Europe/Berlin (default: UTC)."
)
@click.option("--resume", is_flag=True, help="Continue after the last row that an earlier import of this file handled.")
@click.option("--again", is_flag=True, help="Import a file again that was imported before.")
@click.option("--strict", is_flag=True, help="Stop at the first row that is refused.")
@common
def import_command(
    config: Config,
    *,
    file: Path,
    kind: str | None,
    mapping: tuple[str, ...],
    timezone: str | None,
    resume: bool,
    again: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Store the retrievals of a CSV, Parquet, JSON Lines or JSON file. Exit code 1 when some rows were refused.

    Columns named like the fields of a retrieval need no --map: ts, query, score, session_id, arm and so on; documents,
    attributes and scores are JSON. An empty score is an empty hit list. The file may be the output of
    `questions --json`.

    Example: quarterdeck import log.csv --map score=similarity --map query=question
    """
    from core.intake.importing import import_file, parse_zone
    from core.intake.tables import TableFile

    with click.progressbar(length=1_000, label=f"Importing {file.name}", file=sys.stderr) as bar:
        report = import_file(
            open_store(config, create=True),
            TableFile(file, kind=kind, mapping=parse_mapping(mapping)),
            redact=redactor_of(config),
            zone=parse_zone(timezone) if timezone else None,
            resume=resume,
            again=again,
            strict=strict,
            on_progress=lambda share: bar.update(int(share * 1_000) - bar.pos),
        )
    _show_import(report, what="rows", as_json=as_json)


@click.command("import-traces")
@click.option("--tracking-uri", metavar="URI", help="MLflow's address (default: MLFLOW_TRACKING_URI).")
@click.option("--experiment", metavar="NAME", help="Only the traces of this MLflow experiment.")
@common
def import_traces_command(config: Config, *, tracking_uri: str | None, experiment: str | None, as_json: bool) -> None:
    """Import the retriever spans of MLflow's traces that were not imported before.

    Example: quarterdeck import-traces --tracking-uri http://127.0.0.1:5000 --experiment support-bot
    """
    from core.intake.importing import import_traces
    from core.intake.traces import TraceSource

    source = TraceSource(tracking_uri or config.tracking_uri, experiment=experiment)
    report = import_traces(open_store(config, create=True), source, redact=redactor_of(config))
    _show_import(report, what="spans", as_json=as_json)


@click.command()
@click.option(
    "--older-than", metavar="AGE", help="Delete rows of this age, like 90d, or from before a day, like 2026-03-01."
)
@click.option("--text-before", metavar="AGE", help="Remove the queries' text from rows of this age; the rows stay.")
@click.option("--answers-before", metavar="AGE", help="Remove the answers from rows of this age.")
@click.option("--documents-before", metavar="AGE", help="Remove the documents from rows of this age.")
@click.option("--reason", default="retention", show_default=True, help="Why: it goes into the audit trail.")
@common
def purge(config: Config, *, older_than: str | None, reason: str, as_json: bool, **parts: str | None) -> None:
    """Delete old retrievals, or their text, answers or documents. Rollups stay: counts and histograms without text.

    Without an option, the ages are those of QUARTERDECK_RETENTION_DAYS, QUARTERDECK_TEXT_DAYS, QUARTERDECK_ANSWERS_DAYS
    and QUARTERDECK_DOCUMENTS_DAYS.

    Example: quarterdeck purge --older-than 365d --text-before 90d --answers-before 30d
    """
    now = datetime.now(UTC)
    given = {"rows": older_than, **{name.removesuffix("_before"): age for name, age in parts.items()}}
    before = {part: _read_age(part, age, now) for part, age in given.items() if age}
    if not before:
        before = {part: now - timedelta(days=days) for part, days in config.retention.items()}
    if not before:
        raise InvalidInput("older-than", "give --older-than 90d, or set QUARTERDECK_RETENTION_DAYS")
    store, act = open_store(config), Act(config.operator, reason, config.environment)
    rows_before = before.pop("rows", None)
    deleted = purge_retrievals(store, rows_before, act) if rows_before else 0
    removed = forget_parts(store, before, act)
    told = {"deleted": deleted, "before": rows_before.isoformat() if rows_before else None, "removed": removed}
    lines = [f"{deleted:,} retrievals are deleted"] if rows_before else []
    show(as_json, told, [*lines, *(f"{rows:,} retrievals lose their {part}" for part, rows in removed.items())])


def parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    mapping = dict(pair.partition("=")[::2] for pair in pairs)
    for pair in pairs:
        if not all(pair.partition("=")):
            raise InvalidInput("map", f"must be FIELD=COLUMN, not {pair!r}")
    if len(mapping) < len(pairs):
        raise InvalidInput("map", "gives a field two columns")
    return mapping


def _show_import(report: Any, *, what: str, as_json: bool) -> None:
    for note in report.notes:
        click.echo(note, err=True)
    skipped = f", {report.skipped:,} were imported before" if report.skipped else ""
    known = f" ({report.known:,} were there already)" if report.known else ""
    lines = [f"{report.read:,} {what} read, {report.stored:,} stored{known}, {report.refused_count:,} refused{skipped}"]
    lines += [f"row {each.row}: {each.field}: {each.problem}" for each in report.refused]
    if report.refused_count > len(report.refused):
        lines.append(f"and {report.refused_count - len(report.refused):,} more")
    show(as_json, report, lines)
    if report.refused_count:
        sys.exit(1)


def _read_age(part: str, text: str, now: datetime) -> datetime:
    field = "older-than" if part == "rows" else f"{part}-before"
    number = text.removesuffix("d")
    if number.isascii() and number.isdigit() and 1 <= int(number) <= 36_500:
        return now - timedelta(days=int(number))
    try:
        day = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(
            field, f"must be a number of days like 90d, or a day like 2026-03-01, not {text!r}"
        ) from error
    if day > now:
        raise InvalidInput(field, f"must be a day in the past, not {text}")
    return day


def _cluster_count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InvalidInput("clusters", f"must be a whole number from 1 on, or auto, not {text!r}")
    return int(text)


def _summarize(
    store: "Store", found: "Topics", config: Config, *, model: tuple[str, str, str | None], max_cost_usd: float
) -> None:
    """Let a model name the topics, most worth indexing first, until the ceiling; what it wrote before is kept."""
    from core.coverage.summaries import summarize_topics
    from core.prompts.models import Protocols, open_model
    from core.prompts.prices import parse_prices
    from core.prompts.spending import Budget, CeilingReached

    protocol, name, base_url = model
    prices = parse_prices((PROJECT / "data" / "prices.yaml").read_text(encoding="utf-8"))
    budget = Budget(max_cost_usd)
    writer = open_model(Protocols(protocol), name, prices=prices, budget=budget, base_url=base_url)
    by = Act(config.operator, f"named by {name}", config.environment)
    try:
        summarize_topics(store, found.ranked(), writer, by)
    except CeilingReached as ceiling:
        click.echo(str(ceiling), err=True)


def _subtitle(topic: "Topic") -> str:
    return ", ".join(topic.keywords) or topic.sample_queries[0]


def _group_csv(
    config: Config, path: Path, column: str, *, clusters: int | None, weight: str | None, assignments: Path | None
) -> "Topics":
    from core.coverage.topics import find_topics
    from core.embedding.embed import Embedder
    from core.log.values import AskedQuery

    rows = _read_csv(path, column)
    counts = [1] * len(rows) if weight is None else _read_weights(path, rows, weight)
    queries = [AskedQuery(row[column], count, 0.0) for row, count in zip(rows, counts, strict=True)]
    embedder = Embedder(config.embedding_model)
    vectors = embedder.embed([query.text for query in queries])
    found = find_topics(queries, vectors, clusters=clusters, languages=embedder.languages)
    if assignments:
        with assignments.open("w", newline="", encoding="utf-8") as file:
            written = [write_row(row | {"cluster": found.assignments[at]}) for at, row in enumerate(rows)]
            writer = csv.DictWriter(file, list(written[0]))
            writer.writeheader()
            writer.writerows(written)
    return found


def _read_weights(path: Path, rows: list[dict[str, str]], column: str) -> list[int]:
    if column not in rows[0]:
        raise InvalidInput("weight", f"{path} has no column {column!r}; it has: {', '.join(rows[0])}")
    for number, row in enumerate(rows, 1):
        if not _WEIGHT.fullmatch(row[column] or ""):
            told = f"row {number} of {path} has {row[column]!r} in {column!r}; times asked are whole numbers from 1 on"
            raise InvalidInput("weight", told)
    return [int(float(row[column])) for row in rows]


def _read_csv(path: Path, column: str) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput("input", f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise InvalidInput("input", f"{path} holds no rows")
    if column not in rows[0]:
        raise InvalidInput("column", f"{path} has no column {column!r}; it has: {', '.join(rows[0])}")
    for number, row in enumerate(rows, 1):
        if any(surplus := row.pop(None, [])):  # where a reader puts what has no column
            told = f"row {number} of {path} has {count_of(len(surplus), 'field')} more than the header"
            raise InvalidInput("input", f"{told}: put texts with commas in quotes")
    kept = [row for row in rows if (row[column] or "").strip()]
    if len(kept) < len(rows):
        click.echo(f"{len(rows) - len(kept)} rows without text in {column!r} are left out", err=True)
    return kept
