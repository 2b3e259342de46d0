"""The commands `cases …`: sets of evaluation cases in the store, and the files that CI reads."""

import sys
from pathlib import Path
from typing import Any

import click

from app.commands.common import common, make_embedder, open_store, show, to_json
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput
from core.wording.counts import count_of

_PATH = click.Path(path_type=Path)


@click.group()
def cases() -> None:
    """Keep evaluation cases: list sets, import and export files, add questions."""


@cases.command("list")
@click.argument("name", required=False)
@common
def cases_list(config: Config, *, name: str | None, as_json: bool) -> None:
    """List the case sets of the store, or the cases of the set NAME (qa, or qa@3 for a former version).

    Example: quarterdeck cases list qa
    """
    from core.cases.store import list_sets, read_reference

    store = open_store(config)
    if name is None:
        found = list_sets(store)
        lines = [
            f"{each.name:<24} {each.count:>5} cases  version {each.version:<4} {each.unreviewed} not reviewed"
            f"{'  golden set of index swaps' if each.is_golden else ''}"
            for each in found
        ]
        show(as_json, found, lines or ["no case set is stored yet; `quarterdeck cases import NAME FILE` makes one"])
        return
    held = read_reference(store, name)
    lines = [
        f"{each.id:<8} {'' if each.case.answerable else '(refusal) '}{each.case.question}"
        f"  [{', '.join(each.case.expected_documents) or 'no document'}]"
        f"{'' if each.reviewer else '  not reviewed'}{''.join(f'  #{tag}' for tag in each.tags)}"
        for each in held.cases
    ]
    show(as_json, [to_json(each) for each in held.cases], lines)


@cases.command("import")
@click.argument("name")
@click.argument("file", type=_PATH)
@click.option("--reason", default="imported a file", show_default=True, help="Why: it goes into the audit trail.")
@common
def cases_import(config: Config, *, name: str, file: Path, reason: str, as_json: bool) -> None:
    """Let the set NAME hold exactly the cases of FILE (JSON Lines, as for `quarterdeck eval`).

    Cases of the same id keep their source and tags. A set that does not exist yet is made.

    Example: quarterdeck cases import qa data/demo/cases/qa.jsonl
    """
    from core.cases.golden import read_cases
    from core.cases.operations import import_cases
    from core.cases.store import find_set

    store, found = open_store(config, create=True), read_cases(file)
    former = find_set(store, name)
    act = Act(config.operator, reason, config.environment)
    if former.version and former.plain == found:
        show(as_json, {"set": name, "version": former.version, "changed": False}, [f"{name} holds these cases already"])
        return
    entry = import_cases(store, name, found, act, reviewer=config.operator, expected=former.version)
    version = former.version + 1
    answer = {"set": name, "version": version, "cases": len(found), "changed": True, "audit_entry": entry}
    show(as_json, answer, [f"{name} holds {count_of(len(found), 'case')}, version {version} (audit entry {entry})"])


@cases.command("export")
@click.argument("name")
@click.argument("file", required=False, type=_PATH)
@click.option("--check", is_flag=True, help="Write nothing; compare FILE with the store (exit code 1 if they differ).")
@common
def cases_export(config: Config, *, name: str, file: Path | None, check: bool, as_json: bool) -> None:
    """Write the set NAME (qa, or qa@3) to FILE, or print it. The same cases always give the same bytes.

    In CI, `--check` fails where file and store differ, and lists each case that does.

    Example: quarterdeck cases export qa data/demo/cases/qa.jsonl --check
    """
    from core.cases.cases import compare_cases, render_cases
    from core.cases.golden import read_cases
    from core.cases.store import read_reference

    found = read_reference(open_store(config), name)
    text = render_cases(found.plain)
    if check:
        if file is None:
            raise InvalidInput("file", "name the file to compare with")
        differences = compare_cases(found.plain, read_cases(file))
        if not differences and file.read_bytes() != text.encode():
            differences = ("the file is written in another way; export it again",)
        said = [f"{file} differs from {found.name}, version {found.version}:", *(f"  {line}" for line in differences)]
        good = [f"{file} is {found.name}, version {found.version}: {count_of(len(found.cases), 'case')}"]
        show(as_json, {"same": not differences, "differences": differences}, said if differences else good)
        if differences:
            sys.exit(1)
        return
    if file is None:
        click.echo(text, nl=False)
        return
    _write(file, text)
    show(
        as_json,
        {"cases": len(found.cases), "version": found.version},
        [f"{file} holds {count_of(len(found.cases), 'case')}"],
    )


@cases.command("add")
@click.argument("name")
@click.option("--question", "asked", multiple=True, metavar="ID", help="A logged question, by its retrieval id.")
@click.option("--topic", default="", metavar="TOPIC", help="Ten typical questions of a topic: its id, number or label.")
@click.option("--service", metavar="NAME", help="Which service's topics (default: the only one that reports).")
@click.option("--duplicates", is_flag=True, help="Add questions too that repeat a case.")
@click.option("--yes", is_flag=True, help="Add them. Without it, only the proposals are shown.")
@click.option("--reason", default="added from the log", show_default=True, help="Why: it goes into the audit trail.")
@common
def cases_add(
    config: Config,
    *,
    name: str,
    asked: tuple[str, ...],
    topic: str,
    service: str | None,
    duplicates: bool,
    yes: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Add logged questions to the set NAME, as drafts to be reviewed. Names those that repeat a case.

    Example: quarterdeck cases add qa --topic 1
    """
    from core.cases.operations import add_cases

    if bool(asked) == bool(topic):
        raise InvalidInput("cases add", "give either --question or --topic")
    store = open_store(config)
    found = _propose(config, store, name, asked, topic, service)
    wanted = found.all if duplicates else found.fresh
    entry = None
    if yes and wanted:
        act = Act(config.operator, reason, config.environment)
        entry = add_cases(store, name, wanted, act, expected=found.set_version)
    lines = [_describe(each) for each in found.proposals]
    said = (
        f"added {count_of(len(wanted), 'case')} to {name} (audit entry {entry})"
        if entry
        else f"{len(wanted)} would be added"
    )
    lines.append(said if entry or not wanted else f"{said}; add --yes to add them")
    answer = {"set": name, "proposals": found.proposals, "added": len(wanted) if entry else 0, "audit_entry": entry}
    show(as_json, answer, lines)


def _propose(config: Config, store: Any, name: str, asked: tuple[str, ...], topic: str, service: str | None) -> Any:
    from app.commands.common import find_scope, settle_days
    from core.cases.proposals import propose_cases, propose_of_topic
    from core.coverage.report import find_threshold, report_coverage

    scope = find_scope(config, store, service)
    today, embedder = settle_days(store, scope), make_embedder(config, store)
    if topic:
        coverage = report_coverage(store, embedder, scope=scope, today=today, low_score=config.low_score)
        return propose_of_topic(store, embedder, coverage, topic, name)
    threshold = find_threshold(store, scope=scope, today=today, low_score=config.low_score)
    return propose_cases(store, embedder, _find_questions(store, asked), name, threshold=threshold)


def _find_questions(store: Any, asked: tuple[str, ...]) -> list[Any]:
    from core.errors import NotFound
    from core.log.filters import QuestionFilter
    from core.log.questions import list_page

    found: list[Any] = []
    for each in asked:
        questions = list_page(store, QuestionFilter(retrieval_id=each), limit=1).questions
        if not questions:
            raise NotFound(f"question: there is no question {each!r} in the log")
        found += questions
    return found


def _describe(proposal: Any) -> str:
    new = proposal.new
    documents = ", ".join(new.expected_documents) or "a refusal"
    said = f"{new.question}  [{documents}; {proposal.note}]"
    repeat = proposal.duplicate
    return said if repeat is None else f"{said}  repeats {repeat.of!r} ({repeat.similarity:.2f})"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be written: {error.strerror}") from error


@cases.command("golden")
@click.argument("name")
@click.option("--off", is_flag=True, help="The set stops being the golden set.")
@click.option("--reason", default="golden set of index swaps", show_default=True, help="Why: for the audit trail.")
@common
def cases_golden(config: Config, *, name: str, off: bool, reason: str, as_json: bool) -> None:
    """Make the set NAME the golden set of index swaps: probes search its questions before an index goes live.

    Example: quarterdeck cases golden qa
    """
    from core.cases.operations import mark_golden

    entry = mark_golden(open_store(config), name, Act(config.operator, reason, config.environment), golden=not off)
    said = f"{name} is {'no longer ' if off else ''}the golden set of index swaps (audit entry {entry})"
    show(as_json, {"set": name, "golden": not off, "audit_entry": entry}, [said])
