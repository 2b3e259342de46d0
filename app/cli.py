"""The command line: translates arguments to calls into `core/`, reports to text or JSON, and errors to exit codes.

Exit codes: 0 done, 1 a source failed or somebody else was faster, 2 the input was wrong.
"""

import csv
import dataclasses
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import click

from app.evaluations import add_commands
from core.config import Config, load_config
from core.control import get_flag, list_audit, list_broken_audit_entries, list_flags
from core.errors import InvalidInput, NotFound, QuarterdeckError
from core.operations import Act, change_rollout, import_flags, purge_retrievals, switch_flag
from quarterdeck.definitions import rollout_pct
from quarterdeck.snapshot import load_definitions
from quarterdeck.store import Store

Command = Callable[..., Any]


def run() -> None:
    """Run the command line; every error of ours becomes one line and an exit code."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait for others must not burn their cores
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except QuarterdeckError as error:
        click.echo(f"quarterdeck: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput | NotFound) else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Quarterdeck: the operations deck of a RAG product."""


def _common(command: Command) -> Command:
    """Give a command --json and --database, and hand it the configuration."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    @click.option(
        "--database", metavar="URL", help="The shared store (default: QUARTERDECK_DATABASE_URL, else the demo's)."
    )
    @functools.wraps(command)
    def wrapped(*, database: str | None, **options: Any) -> Any:
        return command(load_config(os.environ, database_url=database), **options)

    return wrapped


@main.command()
@click.option("--reset", is_flag=True, help="Remove the former demo first.")
@_common
def demo(config: Config, *, reset: bool, as_json: bool) -> None:
    """Build the demo in QUARTERDECK_HOME: corpus, indexes, retrievals, experiments, flags.

    Example: quarterdeck demo --reset
    """
    from core.demo import build_demo

    built = build_demo(config, now=datetime.now(UTC), reset=reset, say=lambda line: click.echo(line, err=as_json))
    text = f"The demo is ready in {config.home}." if built else f"There is a demo in {config.home} already."
    _show(as_json, {"home": str(config.home), "built": built}, [text])


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535))
@_common
def serve(config: Config, *, host: str, port: int, as_json: bool) -> None:
    """Serve the pages and the HTTP API from one process.

    Example: quarterdeck serve --port 8600
    """
    from app.server import serve as serve_app

    os.environ["QUARTERDECK_DATABASE_URL"] = config.database_url
    _show(as_json, {"url": f"http://{host}:{port}"}, [f"Quarterdeck is on http://{host}:{port} (stop with Ctrl-C)"])
    serve_app(host, port)


@main.command()
@click.option("--window-days", default=7, show_default=True, type=click.IntRange(1, 365))
@click.option("--baseline-days", default=30, show_default=True, type=click.IntRange(1, 730))
@_common
def drift(config: Config, *, window_days: int, baseline_days: int, as_json: bool) -> None:
    """Tell whether retrieval scores drift, since when, and what to do.

    Example: quarterdeck drift --window-days 7 --baseline-days 30 --json
    """
    from core.reports import report_drift

    report = report_drift(
        _open_store(config),
        environment=config.environment,
        today=datetime.now(UTC).date(),
        window_days=window_days,
        baseline_days=baseline_days,
    ).report
    _show(as_json, report, [f"{report.status}: {report.reason}", report.action])


@main.command()
@click.option("--clusters", default="auto", show_default=True, metavar="N|auto", help="How many topics to look for.")
@click.option("--window-days", default=7, show_default=True, type=click.IntRange(1, 365))
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Group the queries of this CSV instead.")
@click.option("--column", default="text", show_default=True, help="The CSV's column with the queries.")
@click.option("--assignments", type=click.Path(path_type=Path), help="Write the CSV with a column `cluster` here.")
@_common
def topics(
    config: Config,
    *,
    clusters: str,
    window_days: int,
    input_path: Path | None,
    column: str,
    assignments: Path | None,
    as_json: bool,
) -> None:
    """Group the low-scoring queries, or those of a CSV, into topics, largest first.

    Example: quarterdeck topics --clusters 3 --json
    """
    from core.embed import Embedder
    from core.reports import report_coverage
    from core.vectors import VectorCache

    wanted = _cluster_count(clusters)
    if input_path:
        found = _group_csv(config, input_path, column, wanted, assignments)
    else:
        store = _open_store(config)
        found = report_coverage(
            store,
            Embedder(config.embedding_model, cache=VectorCache(store)),
            environment=config.environment,
            today=datetime.now(UTC).date(),
            clusters=wanted,
            window_days=window_days,
            low_score=config.low_score,
        ).topics
    rows = [
        {
            "cluster_id": t.cluster_id, "label": t.label, "count": t.count,
            "share": round(t.share, 4), "sample_queries": list(t.sample_queries),
        }
        for t in found.topics
    ]  # fmt: skip
    lines = [f"{r['count']:>6}  {r['share']:>6.1%}  {r['label']}  —  {r['sample_queries'][0]}" for r in rows]
    if not rows:
        click.echo(found.reason, err=True)
    _show(as_json, rows, lines)


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["csv", "parquet", "jsonl"]), help="Default: by the file's name.")
@click.option("--map", "mapping", multiple=True, metavar="FIELD=COLUMN", help="Read a field from another column.")
@click.option("--timezone", metavar="ZONE", help="Of times without a zone, for example Europe/Berlin (default: UTC).")
@click.option("--resume", is_flag=True, help="Go on after the rows that an earlier import of this file dealt with.")
@click.option("--again", is_flag=True, help="Store the rows of a file that was imported before a second time.")
@click.option("--strict", is_flag=True, help="Stop at the first row that is refused.")
@_common
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
    """Store the retrievals of a CSV, Parquet or JSON Lines file. Exit code 1 when some rows were refused.

    Columns named like the fields of a retrieval need no --map: ts, query, score, session_id, arm and so on. An empty
    score is an empty hit list.

    Example: quarterdeck import log.csv --map score=similarity --map query=question
    """
    from core.importing import import_file, parse_zone
    from core.tables import TableFile

    with click.progressbar(length=1_000, label=f"Importing {file.name}", file=sys.stderr) as bar:
        report = import_file(
            _open_store(config, create=True),
            TableFile(file, kind=kind, mapping=_parse_mapping(mapping)),
            redact=_redactor(config),
            zone=parse_zone(timezone) if timezone else None,
            resume=resume,
            again=again,
            strict=strict,
            on_progress=lambda share: bar.update(int(share * 1_000) - bar.pos),
        )
    _show_import(report, what="rows", as_json=as_json)


@main.command("import-traces")
@click.option("--tracking-uri", metavar="URI", help="MLflow's address (default: MLFLOW_TRACKING_URI).")
@click.option("--experiment", metavar="NAME", help="Only the traces of this experiment.")
@_common
def import_traces_command(config: Config, *, tracking_uri: str | None, experiment: str | None, as_json: bool) -> None:
    """Store the retriever spans of MLflow's traces that did not come in before.

    Example: quarterdeck import-traces --tracking-uri http://127.0.0.1:5000 --experiment support-bot
    """
    from core.importing import import_traces
    from core.traces import TraceSource

    source = TraceSource(tracking_uri or config.tracking_uri, experiment=experiment)
    report = import_traces(_open_store(config, create=True), source, redact=_redactor(config))
    _show_import(report, what="spans", as_json=as_json)


@main.group()
def corpus() -> None:
    """Browse the corpus versions that git and DVC hold."""


@corpus.command("versions")
@_common
def corpus_versions(config: Config, *, as_json: bool) -> None:
    """List the versions of the corpus, newest first.

    Example: quarterdeck corpus versions
    """
    versions = _corpus(config).list_versions()
    lines = [
        f"{v.name:<12} {v.committed:%Y-%m-%d}  {v.files:>6} files  {v.size_bytes:>10} B  {v.message}" for v in versions
    ]
    _show(as_json, versions, lines)


@corpus.command("files")
@click.argument("revision")
@_common
def corpus_files(config: Config, *, revision: str, as_json: bool) -> None:
    """List the files of one version.

    Example: quarterdeck corpus files v1
    """
    files = _corpus(config).list_files(revision)
    _show(as_json, files, [f"{file.md5}  {file.path}" for file in files])


@corpus.command("diff")
@click.argument("old")
@click.argument("new")
@_common
def corpus_diff(config: Config, *, old: str, new: str, as_json: bool) -> None:
    """Tell which files differ between two versions.

    Example: quarterdeck corpus diff v1 v2
    """
    diff = _corpus(config).compare_versions(old, new)
    lines = [
        f"{c.kind:<9} {f'{c.old_path} -> ' if c.old_path and c.old_path != c.path else ''}{c.path}"
        for c in diff.changes
    ]
    _show(as_json, diff, lines or ["no file differs"])


@main.group()
def flags() -> None:
    """List, change, export and import feature flags."""


@flags.command("list")
@_common
def flags_list(config: Config, *, as_json: bool) -> None:
    """List the flags of the environment.

    Example: quarterdeck flags list
    """
    found = list_flags(Store(config.database_url), config.environment)
    lines = [f"{flag.key:<28} {_state(flag.definition):<10} version {flag.version}" for flag in found]
    _show(as_json, found, lines or ["no flags yet; `quarterdeck flags import FILE` brings some"])


@flags.command("set")
@click.argument("key")
@click.option("--on/--off", "on", default=None, help="Switch the flag.")
@click.option("--rollout", type=float, metavar="P", help="Roll out to P percent of users (0 to 100).")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@_common
def flags_set(config: Config, *, key: str, on: bool | None, rollout: float | None, reason: str, as_json: bool) -> None:
    """Switch a flag or change its rollout.

    Example: quarterdeck flags set new_prompt_v3 --rollout 50 --reason "no complaints at 20%"
    """
    if on is None and rollout is None:
        raise InvalidInput("flags set", "give --on, --off or --rollout P")
    store, act = Store(config.database_url), Act(config.operator, reason, config.environment)
    if rollout is not None:
        change_rollout(store, get_flag(store, config.environment, key), rollout, act)
    if on is not None:
        switch_flag(store, get_flag(store, config.environment, key), act, on=on)
    flag = get_flag(store, config.environment, key)
    _show(as_json, flag, [f"{key} is {_state(flag.definition)} (version {flag.version})"])


@flags.command("export")
@_common
def flags_export(config: Config, *, as_json: bool) -> None:  # noqa: ARG001 - always JSON
    """Print the environment's flags as a flagd document.

    Example: quarterdeck flags export > flags.json
    """
    from core.reports import export_flags

    click.echo(json.dumps(export_flags(Store(config.database_url), config.environment), indent=2, ensure_ascii=False))


@flags.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reason", default="imported from a file", show_default=True)
@_common
def flags_import(config: Config, *, file: Path, reason: str, as_json: bool) -> None:
    """Add or replace the flags of a flagd document: all of them, or none if one is wrong.

    Example: quarterdeck flags import flags.json --reason "move from flagd"
    """
    act = Act(config.operator, reason, config.environment)
    changed = import_flags(Store(config.database_url, create=True), load_definitions(file), act)
    _show(as_json, {"changed": changed}, [f"{len(changed)} flags changed: {', '.join(changed) or 'none'}"])


@main.group()
def audit() -> None:
    """Read and verify the audit trail."""


@audit.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000))
@_common
def audit_list(config: Config, *, limit: int, as_json: bool) -> None:
    """List the newest changes.

    Example: quarterdeck audit list --limit 5
    """
    entries = list_audit(Store(config.database_url), limit=limit)
    _show(
        as_json,
        entries,
        [f"{e.ts:%Y-%m-%d %H:%M}  {e.actor:<12} {e.action:<14} {e.target}: {e.reason}" for e in entries],
    )


@audit.command("verify")
@_common
def audit_verify(config: Config, *, as_json: bool) -> None:
    """Check the chain of hashes: a changed or removed entry breaks it (exit code 1).

    Example: quarterdeck audit verify
    """
    broken = list_broken_audit_entries(Store(config.database_url))
    said = (
        f"the chain is broken at entries {', '.join(map(str, broken))}"
        if broken
        else "every entry is as it was written"
    )
    _show(as_json, {"broken": broken}, [said])
    if broken:
        sys.exit(1)


@main.group()
def alerts() -> None:
    """Say who is told when retrieval drifts."""


@alerts.command("list")
@_common
def alerts_list(config: Config, *, as_json: bool) -> None:
    """List the alert rules, without their secrets.

    Example: quarterdeck alerts list
    """
    from core.watch import list_alert_rules

    rules = list_alert_rules(Store(config.database_url), config.environment)
    shown = [{"name": rule.name, "url": rule.url, "from_status": rule.from_status} for rule in rules]
    _show(as_json, shown, [f"{r['name']:<20} from {r['from_status']:<9} {r['url']}" for r in shown] or ["no rules yet"])


@alerts.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--secret", envvar="QUARTERDECK_ALERT_SECRET", required=True, help="Signs the body; at least 16 letters.")
@click.option("--from-status", type=click.Choice(["watch", "drifting"]), default="drifting", show_default=True)
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@_common
def alerts_add(
    config: Config, *, name: str, url: str, secret: str, from_status: str, reason: str, as_json: bool
) -> None:
    """Call a webhook when retrieval drifts; the secret is best given as QUARTERDECK_ALERT_SECRET.

    Example: quarterdeck alerts add on-call https://example.org/hook --reason "weekly rota"
    """
    from core.alerts import AlertRule
    from core.drift import Status
    from core.operations import save_alert_rule

    rule = AlertRule(name, url, secret, Status(from_status))
    entry = save_alert_rule(Store(config.database_url), rule, Act(config.operator, reason, config.environment))
    _show(as_json, {"entry": entry}, [f"{name} is told from {from_status} on (audit entry {entry})"])


@alerts.command("remove")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@_common
def alerts_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove an alert rule.

    Example: quarterdeck alerts remove on-call --reason "team is gone"
    """
    from core.operations import delete_alert_rule

    entry = delete_alert_rule(Store(config.database_url), name, Act(config.operator, reason, config.environment))
    _show(as_json, {"entry": entry}, [f"{name} is removed (audit entry {entry})"])


@alerts.command("check")
@_common
def alerts_check(config: Config, *, as_json: bool) -> None:
    """Tell every webhook what it does not know yet; the server does this each minute by itself.

    Example: quarterdeck alerts check
    """
    from core.watch import check_alerts

    lines = check_alerts(_open_store(config), config.environment, now=datetime.now(UTC))
    _show(as_json, lines, lines or ["nothing to tell"])


@main.command()
@click.option("--older-than", metavar="DAYS", help="Age in days, like 90d (default: QUARTERDECK_RETENTION_DAYS).")
@click.option("--reason", default="retention", show_default=True, help="Why: it goes into the audit trail.")
@_common
def purge(config: Config, *, older_than: str | None, reason: str, as_json: bool) -> None:
    """Delete old retrievals. What was counted of them stays: days, segments and histograms, without any text.

    Example: quarterdeck purge --older-than 90d
    """
    days = _days(older_than) if older_than else config.retention_days
    if days is None:
        raise InvalidInput("older-than", "give --older-than 90d, or set QUARTERDECK_RETENTION_DAYS")
    before = datetime.now(UTC) - timedelta(days=days)
    count = purge_retrievals(_open_store(config), before, Act(config.operator, reason, config.environment))
    _show(as_json, {"deleted": count, "before": before.isoformat()}, [f"{count:,} retrievals are deleted"])


@main.group()
def index() -> None:
    """Build, probe, swap, roll back and remove vector indexes; predict what a corpus version would fix."""


_alias_option = click.option("--alias", default="default", show_default=True, help="The name that readers use.")
_golden_option = click.option(
    "--golden",
    type=click.Path(path_type=Path),
    help="JSONL of evaluation cases whose expected documents must be found.",
)


@index.command("build")
@click.argument("source")
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="The index's name (default: from the corpus version and the content).")
@click.option("--reason", default="built from the command line", show_default=True)
@_common
def index_build(config: Config, *, source: str, out: Path | None, name: str | None, reason: str, as_json: bool) -> None:
    """Index SOURCE, a corpus version or a folder; readers see it when it is swapped in. Safe to run again after a kill.

    With OUT, a folder is chunked and embedded into a LanceDB table there and nothing is registered (for DVC stages).

    Example: quarterdeck index build v2
    """
    if out is not None:
        from core.ingest import build_index

        count = build_index(Path(source), out, config)
        _show(as_json, {"chunks": count}, [f"{count} chunks of {source} are indexed in {out}"])
        return
    from core.builds import build_version

    store = _open_store(config, create=True)
    report = build_version(
        store,
        _embedder(config, store),
        _read_source(config, source),
        Act(config.operator, reason, config.environment),
        location=config.index_uri,
        name=name,
        on_progress=_show_progress,
    )
    for problem in report.problems:
        click.echo(f"left out: {problem.document}: {problem.reason}", err=True)
    verb = "is there already" if report.was_there else "is built"
    said = f"{report.index.chunks:,} chunks of {report.documents:,} documents, {report.embedded:,} newly embedded"
    _show(as_json, report, [f"{report.index.name} {verb}: {said}. Next: quarterdeck index probe {report.index.name}"])


@index.command("list")
@_common
def index_list(config: Config, *, as_json: bool) -> None:
    """List the indexes, newest first, and the aliases that stand for them.

    Example: quarterdeck index list
    """
    from core.control import list_aliases, list_indexes

    store = _open_store(config)
    found, aliases = list_indexes(store), list_aliases(store)
    names = {each.name: [alias.alias for alias in aliases if alias.index_name == each.name] for each in found}
    lines = [
        f"{each.name:<32} {each.corpus_version:<12} {each.chunks:>8,} chunks  {each.built:%Y-%m-%d %H:%M} "
        f"by {each.built_by}{''.join(f'  <- {alias}' for alias in names[each.name])}"
        for each in found
    ]
    rows = [{**_plain(each), "aliases": names[each.name]} for each in found]
    _show(as_json, rows, lines or ["no index yet; `quarterdeck index build VERSION` makes one"])


@index.command("probe")
@click.argument("name")
@_alias_option
@_golden_option
@_common
def index_probe(config: Config, *, name: str, alias: str, golden: Path | None, as_json: bool) -> None:
    """Search an index before it goes live, also beside the live one (exit code 1 when it does not pass).

    Example: quarterdeck index probe docs-v2 --golden data/demo/cases/qa.jsonl
    """
    report = _probe(config, _open_store(config), name, alias, golden)
    marks = {True: "ok  ", False: "FAIL"}
    _show(
        as_json,
        {**_plain(report), "passed": report.passed},
        [f"{marks[check.passed]}  {check.name}: {check.reason}" for check in report.checks],
    )
    if not report.passed:
        sys.exit(1)


@index.command("swap")
@click.argument("name")
@_alias_option
@_golden_option
@click.option("--unprobed", is_flag=True, help="Swap without a probe.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@_common
def index_swap(
    config: Config, *, name: str, alias: str, golden: Path | None, unprobed: bool, reason: str, as_json: bool
) -> None:
    """Probe an index and let the alias stand for it; readers follow within two seconds.

    Example: quarterdeck index swap docs-v2 --reason "covers VPP"
    """
    from core.builds import find_live, ship_index
    from core.operations import swap_index

    store, act = _open_store(config), Act(config.operator, reason, config.environment)
    live = find_live(store, alias)
    former = live.name if live else None
    if unprobed:
        swap_index(store, alias, name, act, expected=former)
    else:
        ship_index(store, alias, _probe(config, store, name, alias, golden), act, expected=former)
    _show(as_json, {"alias": alias, "index": name, "former": former}, [f"{alias} stands for {name}, was {former}"])


@index.command("rollback")
@_alias_option
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@_common
def index_rollback(config: Config, *, alias: str, reason: str, as_json: bool) -> None:
    """Let the alias stand for the index that it stood for before.

    Example: quarterdeck index rollback --reason "answers got worse"
    """
    from core.operations import rollback_index

    name = rollback_index(_open_store(config), alias, Act(config.operator, reason, config.environment))
    _show(as_json, {"alias": alias, "index": name}, [f"{alias} stands for {name} again"])


@index.command("gc")
@click.option("--keep", default=3, show_default=True, type=click.IntRange(0), help="How many unused ones to keep.")
@click.option("--grace-minutes", default=60, show_default=True, type=click.IntRange(0))
@click.option("--reason", default="no longer needed", show_default=True)
@_common
def index_gc(config: Config, *, keep: int, grace_minutes: int, reason: str, as_json: bool) -> None:
    """Remove old indexes: never a live one, the one to roll back to, or one that was in use within the grace period.

    Example: quarterdeck index gc --keep 2
    """
    from core.builds import collect_garbage

    act = Act(config.operator, reason, config.environment)
    done = collect_garbage(_open_store(config), act, keep=keep, grace=timedelta(minutes=grace_minutes))
    lines = [f"removed {name}" for name in done.removable] + [f"kept {each.name}: {each.reason}" for each in done.kept]
    _show(as_json, {"removed": list(done.removable), "kept": done.kept}, lines or ["there is no index"])


@index.command("predict")
@click.argument("source")
@_alias_option
@click.option("--window-days", default=7, show_default=True, type=click.IntRange(1, 365))
@click.option("--measure", is_flag=True, help="Compare the kept prediction with the index built from SOURCE instead.")
@_common
def index_predict(config: Config, *, source: str, alias: str, window_days: int, measure: bool, as_json: bool) -> None:
    """Predict what SOURCE, a corpus version, `workspace` or a folder, would do to the low-scoring queries.

    Example: quarterdeck index predict v2
    """
    from core.builds import get_live
    from core.forecasts import forecast_coverage, get_prediction, measure_prediction
    from core.operations import save_prediction
    from core.reports import report_coverage

    store = _open_store(config)
    embedder = _embedder(config, store)
    if measure:
        check = measure_prediction(store, embedder, get_prediction(store, source))
        rows = [each for each in (check.total, *check.topics) if each]
        _show(
            as_json,
            check,
            [f"{r.label:<40} predicted {r.predicted_score:.3f}, measured {r.measured_score:.3f}" for r in rows],
        )
        return
    coverage = report_coverage(
        store,
        embedder,
        environment=config.environment,
        today=datetime.now(UTC).date(),
        window_days=window_days,
        low_score=config.low_score,
    )
    found = forecast_coverage(
        store, embedder, _read_source(config, source), get_live(store, alias), coverage, on_progress=_show_progress
    )
    save_prediction(store, found, Act(config.operator, f"predicted against {found.live}", config.environment))
    lines = [
        f"{topic.count:>6}  {topic.live_score:.2f} -> {topic.predicted_score:.2f}  {topic.lifted_share:>4.0%} lifted  "
        f"{topic.label}  ({', '.join(topic.documents[:3]) or 'nothing new helps'})"
        for topic in found.topics
    ]
    lines.append(
        f"{found.lifted_share:.0%} of low-scoring queries would reach {found.threshold:.2f}; {len(found.worse)} would "
        f"score worse; {len(found.unreached)} of {found.new_documents} new documents are reached by no query"
    )
    _show(as_json, {**_plain(found), "lifted_share": found.lifted_share, "lift": found.lift}, lines)


def _embedder(config: Config, store: Store) -> Any:
    from core.embed import Embedder
    from core.vectors import VectorCache

    return Embedder(config.embedding_model, cache=VectorCache(store))


def _read_source(config: Config, source: str) -> Any:
    from core.ingest import read_folder, read_version

    if Path(source).is_dir():
        return read_folder(Path(source), on_progress=_show_progress)
    return read_version(_corpus(config), source, on_progress=_show_progress)


def _probe(config: Config, store: Store, name: str, alias: str, golden: Path | None) -> Any:
    from core.builds import find_live, golden_of, list_recent_queries, probe_index
    from core.cases import parse_cases

    live = find_live(store, alias)
    try:
        cases = parse_cases(golden.read_text(encoding="utf-8"), source=golden.name) if golden else ()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("golden", f"{golden} cannot be read: {error}") from error
    return probe_index(
        store,
        _embedder(config, store),
        name,
        golden=golden_of(cases),
        queries=list_recent_queries(store, today=datetime.now(UTC).date()),
        live=live.name if live else None,
    )


def _show_progress(step: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{step}: {done:,} of {total:,} ", err=True, nl=done == total)


def _parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    mapping = dict(pair.partition("=")[::2] for pair in pairs)
    for pair in pairs:
        if not all(pair.partition("=")):
            raise InvalidInput("map", f"must be FIELD=COLUMN, not {pair!r}")
    if len(mapping) < len(pairs):
        raise InvalidInput("map", "gives a field two columns")
    return mapping


def _redactor(config: Config) -> Callable[[str], str]:
    from quarterdeck.redaction import compose, redact

    return redact if config.redact else compose()


def _show_import(report: Any, *, what: str, as_json: bool) -> None:
    for note in report.notes:
        click.echo(note, err=True)
    skipped = f", {report.skipped:,} came in before" if report.skipped else ""
    lines = [f"{report.read:,} {what} read, {report.stored:,} stored, {report.refused_count:,} refused{skipped}"]
    lines += [f"row {each.row}: {each.field}: {each.problem}" for each in report.refused]
    if report.refused_count > len(report.refused):
        lines.append(f"and {report.refused_count - len(report.refused):,} more")
    _show(as_json, report, lines)
    if report.refused_count:
        sys.exit(1)


def _open_store(config: Config, *, create: bool = False) -> Store:
    """Return the store, which knows where the retrieval log is."""
    return Store(config.database_url, create=create, log_url=config.log_url)


def _days(text: str) -> int:
    number = text.removesuffix("d")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 36_500:
        raise InvalidInput("older-than", f"must be a number of days like 90d, not {text!r}")
    return int(number)


def _cluster_count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InvalidInput("clusters", f"must be a whole number from 1 on, or auto, not {text!r}")
    return int(text)


def _group_csv(config: Config, path: Path, column: str, clusters: int | None, assignments: Path | None) -> Any:
    from core.embed import Embedder
    from core.topics import AskedQuery, find_topics

    rows = _read_csv(path, column)
    queries = [AskedQuery(row[column], 1, 0.0) for row in rows]
    found = find_topics(queries, Embedder(config.embedding_model).embed([q.text for q in queries]), clusters=clusters)
    if assignments:
        with assignments.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0], "cluster"])
            writer.writeheader()
            writer.writerows(row | {"cluster": found.assignments[at]} for at, row in enumerate(rows))
    return found


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
    kept = [row for row in rows if (row[column] or "").strip()]
    if len(kept) < len(rows):
        click.echo(f"{len(rows) - len(kept)} rows without text in {column!r} are left out", err=True)
    return kept


def _corpus(config: Config) -> Any:
    from core.corpus import Corpus

    return Corpus(config.corpus_repo)


def _state(definition: dict[str, Any]) -> str:
    if definition.get("state") == "DISABLED":
        return "off"
    share = rollout_pct(definition)
    return "on" if share is None or share == 100 else f"on {share:g}%"


def _show(as_json: bool, value: Any, lines: Iterable[str]) -> None:
    if as_json:
        click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False))
    else:
        for line in lines:
            click.echo(line)


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: our types as objects, times and days as ISO text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


add_commands(main, _common, _show)
