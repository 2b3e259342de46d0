"""The map of the rooms: who may import whom. A module that is on no list yet fails here, and its author places it."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from core.acts import Act
from core.permissions import NEEDS

PROJECT = Path(__file__).resolve().parents[1]

RULES = {
    "abtest", "abtest_design", "access", "agreement", "alerts", "answers", "arms", "canary", "canary_plan", "cases",
    "causes", "changepoint", "chunks", "clusters", "colours", "comparisons", "conversion", "decisions", "drift",
    "edits", "evidence", "exports", "folders", "gates", "growthbook", "headline", "histograms", "identity", "impact",
    "jsondiff", "labels", "log_rows", "manifests", "markdown", "misses", "otlp", "pairs", "permissions", "prediction",
    "prices", "probes", "prompts", "retention", "rows", "runs", "schedules", "sequential", "spans", "spending",
    "timeline", "topics", "unleash", "upkeep", "verdicts", "worddiff",
    "inheritance", "letters", "scrubbing", "spreadsheets",
}  # fmt: skip
GATEWAYS = {
    "abtest_records", "audit_files", "backlog", "backups", "checkout", "clickhouse_log", "clones", "config",
    "control", "corpus", "drivers", "embed", "environments", "experiments", "exposures", "formats", "health",
    "histories", "history", "indexes", "intake", "jobs", "journal", "leases", "leftovers", "migrator",
    "mlflow_client", "mlflow_sql", "models", "pipeline", "previews", "proxy", "retrievals", "services", "sessions",
    "sql_log", "storage", "tables", "timetable", "tokens", "traces", "vectors", "webhooks",
    "boundary", "readers",
}  # fmt: skip
SHELLS = {
    "abtests", "acts", "answerers", "backfill", "behaviour", "board", "builds", "calibration", "canaries", "changes",
    "closing", "contests", "credentials", "demo", "deployments", "doctor", "evaluate", "forecasts", "gatekeeper",
    "importing", "ingest", "judges", "launches", "nearest", "operations", "overview", "promotion", "rebuild",
    "reports", "reverts", "roles", "rollouts", "scheduler", "trials", "watch",
}  # fmt: skip
ROOMS = {"errors": 0} | dict.fromkeys(RULES, 1) | dict.fromkeys(GATEWAYS, 2) | dict.fromkeys(SHELLS, 3)

# They write what was seen, computed, received or brought back, not what somebody decides: no audit entry, no role.
# A promotion writes its claim, which keeps a second one out.
OBSERVERS = {
    "backlog",
    "backups",
    "demo",
    "doctor",
    "gatekeeper",
    "importing",
    "intake",
    "leases",
    "promotion",
    "sessions",
    "vectors",
    "watch",
}

OUTSIDE_SYSTEMS = {"sqlalchemy", "sqlite3", "sklearn", "mlflow", "dvc", "sentence_transformers", "lancedb", "chromadb"}
HEAVY = {"torch", "sentence_transformers", "sklearn", "mlflow", "dvc", "lancedb", "pandas"}


def list_modules(folder: str) -> list[Path]:
    """Every module; migrations are scripts of Alembic's and lie outside the map."""
    found = (PROJECT / folder).rglob("*.py")
    return sorted(path for path in found if path.name != "__init__.py" and "migrations" not in path.parts)


def list_imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """The full names of what a file imports: `core.drift` for `from core import drift` too."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in _nodes_run_at_import(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno} imports relatively; the rooms use full names"
            yield str(node.module)
            if "." not in str(node.module):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _nodes_run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _nodes_run_at_import(node)


def find_imports(folder: str, forbidden: set[str], *, except_in: str = "", top_level_only: bool = False) -> list[str]:
    """`file imports name` for each import of a forbidden package."""
    return [
        f"{path.relative_to(PROJECT)} imports {name}"
        for path in list_modules(folder)
        if path.relative_to(PROJECT).as_posix() != except_in
        for name in list_imports(path, top_level_only=top_level_only)
        if name.split(".")[0] in forbidden
    ]


def test_the_client_imports_no_part_of_the_deck() -> None:
    assert find_imports("quarterdeck", {"core", "app", "pages"}, except_in="quarterdeck/__main__.py") == []


def test_the_console_command_imports_nothing_of_the_deck_but_its_command_line() -> None:
    names = set(list_imports(PROJECT / "quarterdeck" / "__main__.py"))
    assert {name for name in names if name.split(".")[0] in {"core", "app", "pages"}} == {"app.cli"}


def test_core_imports_no_door_and_no_streamlit() -> None:
    assert find_imports("core", {"app", "pages", "streamlit"}) == []


@pytest.mark.parametrize("folder", ["pages", "app"])
def test_doors_reach_outside_systems_through_core_only(folder: str) -> None:
    assert find_imports(folder, OUTSIDE_SYSTEMS) == []


def test_pages_import_no_other_page() -> None:
    assert find_imports("pages", {"pages"}) == []


def test_every_module_of_core_has_its_place_on_the_map() -> None:
    assert {path.stem for path in list_modules("core")} == set(ROOMS)


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_module_imports_its_own_room_and_those_below_only(name: str) -> None:
    imported = {
        parts[1]
        for parts in (found.split(".") for found in list_imports(PROJECT / "core" / f"{name}.py"))
        if parts[0] == "core" and len(parts) > 1
    }
    assert {other for other in imported if ROOMS[other] > ROOMS[name]} == set()


def test_rules_touch_no_file_socket_database_clock_or_environment() -> None:
    forbidden = {"os", "io", "pathlib", "socket", "subprocess", "tempfile", "shutil", "time"} | OUTSIDE_SYSTEMS - {
        "sklearn"
    }
    found = {name: {each.split(".")[0] for each in list_imports(PROJECT / "core" / f"{name}.py")} for name in RULES}
    assert {name: names & forbidden for name, names in found.items() if names & forbidden} == {}


@pytest.mark.parametrize("folder", ["core", "quarterdeck"])
def test_heavy_libraries_are_imported_inside_functions_only(folder: str) -> None:
    assert find_imports(folder, HEAVY, top_level_only=True) == []


def test_every_change_has_its_row_among_the_permissions() -> None:
    recorded = {
        text
        for path in list_modules("core")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "change.record"
        for text in _list_texts(node.args[0])
    }
    assert recorded - set(NEEDS) == set(), "add a row to core/permissions.py"


def _list_texts(node: ast.AST) -> list[str]:
    texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return texts or [f"{ast.unparse(node)} (write the action's name where it is recorded)"]


def find_operations() -> Iterator[str]:
    """Every public function of `core/` that takes an act, but for those that make the frame itself."""
    for path in list_modules("core"):
        if path.stem != "acts" and "Act" in path.read_text(encoding="utf-8"):
            module = import_module(f"core.{path.stem}")
            for name, function in inspect.getmembers(module, inspect.isfunction):
                own = function.__module__ == module.__name__ and not name.startswith("_")
                if own and any(each.annotation is Act for each in inspect.signature(function).parameters.values()):
                    yield f"{path.stem}.{name}"


def test_every_operation_is_called_as_every_role_by_a_test() -> None:
    from tests.test_permissions import OPERATIONS

    assert set(find_operations()) == set(OPERATIONS), "add a row to OPERATIONS in tests/test_permissions.py"


def test_what_is_written_past_the_gate_of_changes_is_observed_and_not_decided() -> None:
    beginning = {
        path.stem
        for path in list_modules("core")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("store.begin", "store.begin_in_turn"))
    }
    assert beginning == OBSERVERS | {"acts"}, "changes go through acts.changing; what only keeps observations says so"


def test_only_a_door_that_knows_who_comes_in_makes_an_act() -> None:
    making = [
        path.relative_to(PROJECT).as_posix()
        for folder in ("pages", "app")
        for path in list_modules(folder)
        if re.search(r"\bAct\(", path.read_text(encoding="utf-8"))
    ]
    assert {path for path in making if not path.startswith("app/commands/")} == {"app/visitor.py"}


@pytest.mark.slow
def test_importing_every_room_loads_no_heavy_library() -> None:
    modules = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for folder in ("core", "quarterdeck")
        for path in list_modules(folder)
    ]
    script = f"import sys, {', '.join(modules)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_streamlit_caches_are_in_resources_only() -> None:
    using = {
        path.relative_to(PROJECT).as_posix()
        for folder in ("app", "pages")
        for path in list_modules(folder)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("cache_")
    }
    assert using == {"app/resources.py"}


@pytest.mark.parametrize("folder", ["app", "pages", "core"])
def test_no_html_is_let_through(folder: str) -> None:
    assert [path.name for path in list_modules(folder) if "unsafe_allow_" in path.read_text(encoding="utf-8")] == []
