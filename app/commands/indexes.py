"""The commands `index …`: build, probe, try, swap, roll back, remove; predict what a corpus version would fix."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.common import (
    common,
    find_scope,
    make_embedder,
    open_corpus,
    open_store,
    rollback_options,
    service_option,
    settle_days,
    show,
    show_progress,
    show_rehearsal,
    to_json,
)
from core.audit.acts import Act
from core.config import Config
from core.flags.canary_plan import Automation
from core.indexes.registry import Index
from core.wording.counts import count_of
from quarterdeck.store import Store

if TYPE_CHECKING:
    from core.predictions.prediction import Prediction, PredictionCheck


@click.group()
def index() -> None:
    """Build, probe, try, swap, roll back and remove vector indexes; predict what a corpus version would fix."""


_alias_option = click.option("--alias", default="default", show_default=True, help="The name that readers use.")


_golden_option = click.option(
    "--golden",
    type=click.Path(path_type=Path),
    help="JSONL of evaluation cases whose expected documents must be found "
    "(default: the golden case set of the store, else QUARTERDECK_GOLDEN_SET).",
)
_set_option = click.option(
    "--set", "case_set", default="", metavar="NAME", help="A case set of the store: qa, or qa@3."
)


@index.command("build")
@click.argument("source")
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--name", help="The index's name (default: from the corpus version and the content).")
@click.option("--model", help="Another embedding model for this index: a folder, or a name that is installed.")
@click.option(
    "--characters",
    default=900,
    show_default=True,
    type=click.IntRange(100, 10_000),
    metavar="N",
    help="Cut the documents into passages of up to N characters.",
)
@click.option(
    "--reason", default="built from the command line", show_default=True, help="Why: it goes into the audit trail."
)
@common
def index_build(
    config: Config,
    *,
    source: str,
    out: Path | None,
    name: str | None,
    model: str | None,
    characters: int,
    reason: str,
    as_json: bool,
) -> None:
    """Index SOURCE, a corpus version or a folder; readers see it once it is swapped in. Can be run again after a kill.

    With OUT, a folder is chunked and embedded into a LanceDB table there and nothing is registered (for DVC stages).

    Example: quarterdeck index build v2
    """
    if model:  # servers that run elsewhere load it by the same name
        config = replace(config, embedding_model=str(Path(model).resolve()) if Path(model).is_dir() else model)
    if out is not None:
        from core.indexes.ingest import build_index

        count = build_index(Path(source), out, config)
        show(as_json, {"chunks": count}, [f"{count_of(count, 'chunk')} of {source} indexed in {out}"])
        return
    from core.indexes.builds import build_version

    store = open_store(config, create=True)
    report = build_version(
        store,
        make_embedder(config, store),
        _read_source(config, source, max_characters=characters),
        Act(config.operator, reason, config.environment),
        location=config.index_uri,
        name=name,
        on_progress=show_progress,
    )
    for problem in report.problems:
        click.echo(f"left out: {problem.document}: {problem.reason}", err=True)
    verb = "already exists" if report.was_there else "is built"
    said = f"{report.index.chunks:,} chunks of {report.documents:,} documents, {report.embedded:,} newly embedded"
    show(as_json, report, [f"{report.index.name} {verb}: {said}. Next: quarterdeck index probe {report.index.name}"])


@index.command("list")
@common
def index_list(config: Config, *, as_json: bool) -> None:
    """List the indexes, newest first, with the aliases that point at them.

    Example: quarterdeck index list
    """
    from core.indexes.registry import list_aliases, list_indexes

    store = open_store(config)
    found, aliases = list_indexes(store), list_aliases(store)
    names = {each.name: [alias.alias for alias in aliases if alias.index_name == each.name] for each in found}
    lines = [
        f"{each.name:<32} {each.corpus_version:<12} {each.chunks:>8,} chunks  {each.built:%Y-%m-%d %H:%M} "
        f"by {each.built_by}{''.join(f'  <- {alias}' for alias in names[each.name])}"
        for each in found
    ]
    rows = [{**to_json(each), "aliases": names[each.name]} for each in found]
    show(as_json, rows, lines or ["no index yet; `quarterdeck index build VERSION` makes one"])


@index.command("probe")
@click.argument("name")
@_alias_option
@_golden_option
@_set_option
@common
def index_probe(config: Config, *, name: str, alias: str, golden: Path | None, case_set: str, as_json: bool) -> None:
    """Test an index before it goes live, and compare it with the live one (exit code 1 when it does not pass).

    The result is stored: on the corpus page, an index can go live only if its last probe passed. Cases of topics that
    are marked indexed are added to the golden set. The questions are embedded with the model of the index; with another
    one than the live index's, hits and scores are not compared (`quarterdeck replay` does that).

    Example: quarterdeck index probe docs-v2 --golden data/demo/cases/qa.jsonl
    """
    from core.indexes.builds import find_live, save_probe

    store = open_store(config)
    live = find_live(store, alias)
    report = _probe(config, store, name, live, golden, case_set)
    act = Act(config.operator, f"probed for {alias}", config.environment)
    save_probe(store, report, act, live=live.name if live else None)
    marks = {True: "ok  ", False: "FAIL"}
    show(
        as_json,
        {**to_json(report), "passed": report.passed},
        [f"{marks[check.passed]}  {check.name}: {check.reason}" for check in report.checks] + [report.summary],
    )
    if not report.passed:
        sys.exit(1)


@index.command("swap")
@click.argument("name")
@_alias_option
@_golden_option
@_set_option
@click.option("--unprobed", is_flag=True, help="Swap without a probe.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def index_swap(
    config: Config,
    *,
    name: str,
    alias: str,
    golden: Path | None,
    case_set: str,
    unprobed: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Probe an index and point the alias at it; readers follow within 2 seconds.

    Example: quarterdeck index swap docs-v2 --reason "covers VPP"
    """
    from core.indexes.builds import find_live, ship_index
    from core.indexes.operations import swap_index

    store, act = open_store(config), Act(config.operator, reason, config.environment)
    live = find_live(store, alias)
    former = live.name if live else None
    if unprobed:
        swap_index(store, alias, name, act, expected=former)
    else:
        ship_index(store, alias, _probe(config, store, name, live, golden, case_set), act, expected=former)
    show(as_json, {"alias": alias, "index": name, "former": former}, [f"{alias} points to {name}, was {former}"])


@index.command("rollback")
@_alias_option
@rollback_options
@service_option
@common
def index_rollback(
    config: Config, *, alias: str, preview: bool, reason: str, service: str | None, as_json: bool
) -> None:
    """Point the alias back at its previous index.

    Example: quarterdeck index rollback --reason "answers got worse"
    """
    from core.indexes.operations import rollback_index
    from core.rehearsals.report import rehearse_index

    if preview:
        store = open_store(config)
        found = rehearse_index(store, alias, find_scope(config, store, service), now=datetime.now(UTC))
        show_rehearsal(as_json, found, f"{alias} has no previous index that still exists")
        return
    name = rollback_index(open_store(config), alias, Act(config.operator, reason, config.environment))
    show(as_json, {"alias": alias, "index": name}, [f"{alias} points to {name} again"])


@index.command("canary")
@click.argument("name")
@_alias_option
@click.option(
    "--steps", metavar="TEXT", help='Shares and their times (default: "5% for 24h, 25% for 24h, 50% for 24h, 100%").'
)
@click.option(
    "--automation", type=click.Choice([str(each) for each in Automation]),
    help="What the server does by itself: steps and rollbacks, rollbacks (default), or nothing.",
)  # fmt: skip
@click.option("--service", "services", multiple=True, metavar="NAME", help="Judge it only by the rows of this service.")
@click.option("--unprobed", is_flag=True, help="Start without a probe that passed.")
@click.option("--preview", is_flag=True, help="Only say how many recent users would search it. Nothing is changed.")
@click.option("--reason", default="", help="Why: it goes into the audit trail. Only a preview needs none.")
@common
def index_canary(
    config: Config,
    *,
    name: str,
    alias: str,
    steps: str | None,
    automation: str | None,
    services: tuple[str, ...],
    unprobed: bool,
    preview: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Let a share of users search the index NAME instead of the live one, step by step.

    Options that are left out stay as in the alias's last canary. The last step, `canary promote`, lets it go live.

    Example: quarterdeck index canary docs-v2 --steps "5% for 24h, 100%" --reason "covers VPP"
    """
    from core.flags.preview import preview_change
    from core.flags.store import get_flag
    from core.rollouts.index_canaries import plan_index_canary, start_index_canary
    from quarterdeck.index_canaries import canary_key

    store, chosen = open_store(config), Automation(automation) if automation else None
    if preview:
        planned = plan_index_canary(
            store, alias, name, config.environment, steps=steps, automation=chosen, services=services or None
        )
        impact, users = preview_change(
            store, config.environment, canary_key(alias), None, planned.definition, now=datetime.now(UTC)
        )
        who = "made-up users (none is known yet)" if impact.are_made_up else users.source
        said = f"{impact.changed:,} of {impact.asked:,} {who} would search {name} instead of {planned.arms.live}"
        show(as_json, {"asked": impact.asked, "changed": impact.changed, "are_made_up": impact.are_made_up}, [said])
        return
    entry = start_index_canary(
        store, alias, name, Act(config.operator, reason, config.environment),
        steps=steps, automation=chosen, services=services or None, unprobed=unprobed,
    )  # fmt: skip
    key = canary_key(alias)
    share = get_flag(store, config.environment, key).view.green_pct
    said = f"{share:g}% of users search {name} (audit entry {entry}). Next: quarterdeck canary status {key}"
    show(as_json, {"entry": entry, "canary": key, "index": name, "share_pct": share}, [said])


@index.command("gc")
@click.option("--keep", default=3, show_default=True, type=click.IntRange(0), help="How many unused indexes to keep.")
@click.option(
    "--grace-minutes",
    default=60,
    show_default=True,
    type=click.IntRange(0),
    help="Keep an index that was in use within this time.",
)
@click.option("--reason", default="no longer needed", show_default=True, help="Why: it goes into the audit trail.")
@common
def index_gc(config: Config, *, keep: int, grace_minutes: int, reason: str, as_json: bool) -> None:
    """Remove old indexes: never a live one, the one to roll back to, or one that was in use within the grace period.

    Example: quarterdeck index gc --keep 2
    """
    from core.indexes.builds import collect_garbage

    act = Act(config.operator, reason, config.environment)
    done = collect_garbage(open_store(config), act, keep=keep, grace=timedelta(minutes=grace_minutes))
    lines = [f"removed {name}" for name in done.removable] + [f"kept {each.name}: {each.reason}" for each in done.kept]
    show(as_json, {"removed": list(done.removable), "kept": done.kept}, lines or ["there is no index"])


@index.command("map")
@click.argument("name")
@_alias_option
@click.option(
    "--window-days",
    default=7,
    show_default=True,
    type=click.IntRange(1, 365),
    help="Whose questions are asked in both.",
)
@click.option("--sample", default=1_000, show_default=True, type=click.IntRange(100), help="At most this many.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@service_option
@common
def index_map(
    config: Config, *, name: str, alias: str, window_days: int, sample: int, reason: str, service: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Learn how scores of the live index's embedding model compare with those of index NAME's, and keep it.

    Recent questions are searched in both. With the map, everything that reads scores goes on across a swap, and across
    its rollback. The names of the models have to be those that the service logs as `model`.

    Example: quarterdeck index map docs-static --reason "moves to the static model"
    """
    from core.coverage.report import find_threshold
    from core.drift.operations import save_model_map
    from core.embedding.embed import Embedder
    from core.embedding.vectors import VectorCache
    from core.indexes.builds import get_live
    from core.indexes.registry import get_index
    from core.log.retrievals import last_days, list_segment_scores
    from core.replay.mapping import learn_map_between
    from core.replay.replaying import ReplayPlan

    store = open_store(config)
    scope, cache = find_scope(config, store, service), VectorCache(store)
    act = Act(config.operator, reason, scope.environment)  # before minutes of embedding
    live, candidate, today = get_live(store, alias), get_index(store, name), settle_days(store, scope)
    threshold = find_threshold(store, scope=scope, today=today, low_score=config.low_score)
    plan = ReplayPlan(scope, last_days(window_days, until=today), threshold, sample=sample)
    found = learn_map_between(
        store, lambda model: Embedder(model, cache=cache), live, candidate, plan, on_progress=show_progress
    )
    save_model_map(store, found, act, service=scope.service)
    lines = [
        f"{found.former} -> {found.model}, by {found.pairs:,} questions asked under both",
        f"the map misses the mean by {found.error:.3f}",
        f"a question scores low below {threshold:.3f} now, {found.apply(threshold):.3f} after the change",
    ]
    logged = [name for name in list_segment_scores(store, "model", window=plan.window, scope=scope) if name]
    if found.former not in logged:
        lines.append(
            f"note: {scope.service} logs {', '.join(logged) or 'nothing'} as `model`, not {found.former}: the map is "
            "used once it does"
        )
    told = {**to_json(found), "threshold": threshold, "mapped_threshold": found.apply(threshold), "logged": logged}
    show(as_json, told, lines)


@index.command("predict")
@click.argument("source")
@_alias_option
@click.option(
    "--window-days",
    default=7,
    show_default=True,
    type=click.IntRange(1, 365),
    help="How many recent days of queries to use.",
)
@click.option(
    "--on-top", is_flag=True, help="SOURCE is a folder that is added to the live documents and replaces none."
)
@click.option(
    "--measure", is_flag=True, help="Instead, compare the stored prediction with the index built from SOURCE."
)
@service_option
@common
def index_predict(
    config: Config,
    *,
    source: str,
    alias: str,
    window_days: int,
    on_top: bool,
    measure: bool,
    service: str | None,
    as_json: bool,
) -> None:
    """Predict what SOURCE, a corpus version, `workspace` or a folder, would do to the low-scoring queries.

    Example: quarterdeck index predict v2
    """
    from core.coverage.report import report_coverage
    from core.indexes.builds import get_live
    from core.predictions.operations import save_prediction
    from core.predictions.predictions import add_to_live, get_prediction, measure_prediction, predict_coverage

    store = open_store(config)
    scope = find_scope(config, store, service)
    embedder = make_embedder(config, store)
    if measure:
        check = measure_prediction(store, embedder, get_prediction(store, source, scope), scope)
        show(as_json, check, _describe_check(check))
        return
    coverage = report_coverage(
        store,
        embedder,
        scope=scope,
        today=settle_days(store, scope),
        window_days=window_days,
        low_score=config.low_score,
    )
    live, wanted = get_live(store, alias), _read_source(config, source)
    if on_top:
        wanted = add_to_live(wanted, live)
    found = predict_coverage(store, embedder, wanted, live, coverage, on_progress=show_progress)
    act = Act(config.operator, f"predicted against {found.live}", config.environment)
    save_prediction(store, found, act, scope=scope)
    show(
        as_json,
        {**to_json(found), "lifted_share": found.lifted_share, "lift": found.lift},
        _describe_prediction(found),
    )


def _describe_check(check: "PredictionCheck") -> list[str]:
    rows = [each for each in (check.total, *check.topics) if each]
    return [f"{r.label:<40} predicted {r.predicted_score:.3f}, measured {r.measured_score:.3f}" for r in rows]


def _describe_prediction(found: "Prediction") -> list[str]:
    lines = [
        f"{topic.count:>6}  {topic.live_score:.2f} -> {topic.predicted_score:.2f}  {topic.lifted_share:>4.0%} lifted  "
        f"{topic.label}  ({', '.join(topic.documents[:3]) or 'nothing new helps'})"
        for topic in found.topics
    ]
    lines.append(
        f"{found.lifted_share:.0%} of low-scoring queries would reach {found.threshold:.2f}; {len(found.worse)} would "
        f"score worse; {len(found.unreached)} of {found.new_documents} new documents and {len(found.idle)} of those "
        "that stay are reached by no query"
    )
    return lines


def _read_source(config: Config, source: str, **options: int) -> Any:
    from core.indexes.ingest import read_folder, read_version

    if Path(source).is_dir():
        return read_folder(Path(source), on_progress=show_progress, **options)
    return read_version(open_corpus(config), source, on_progress=show_progress, **options)


def _probe(config: Config, store: Store, name: str, live: Index | None, golden: Path | None, case_set: str) -> Any:
    from core.cases.golden import GoldenChoice, load_golden
    from core.indexes.builds import list_recent_queries, probe_index
    from core.indexes.registry import get_index

    return probe_index(
        store,
        make_embedder(replace(config, embedding_model=get_index(store, name).model), store),
        name,
        golden=load_golden(store, GoldenChoice(golden, case_set, config.golden_set)),
        queries=list_recent_queries(store, today=datetime.now(UTC).date()),
        live=live.name if live else None,
    )
