"""The map of the folders and layers: who may import whom. A folder that is not on the list yet fails here."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from app.navigation import TITLES
from core.audit.actions import Action, Subject
from core.audit.acts import Act
from core.audit.permissions import NEEDS
from core.audit.settings import Family

PROJECT = Path(__file__).resolve().parents[1]

# The subjects (folders, and two single files), lowest first: each imports only those that stand before it here.
FOLDERS = (
    "errors", "safety", "wording", "audit", "tracking", "access", "approvals", "log", "intake", "jobs", "store",
    "deployments", "embedding", "drift",
    "corpus", "metrics", "arms", "config", "indexes", "coverage", "cases", "flags", "rollouts", "prompts",
    "predictions", "questions", "reviews", "causes", "ledger", "replay", "rehearsals", "alerts", "todo", "digest",
    "search",
)  # fmt: skip
TOP = {"approved", "demo", "doctor", "erasure", "overview", "reverts"}  # shells over everything
LAYERS = {"rule": 1, "rules": 1, "gateway": 2, "shell": 3}

# They write observations, computed values, imports and restored data, not decisions: no audit entry, no role.
# A promotion writes its claim, which blocks a second one.
OBSERVERS = {
    "access/sessions", "alerts/checking", "alerts/delivery", "approved", "causes/outside_changes",
    "coverage/backlog", "coverage/newcomers", "demo/build", "digest/delivery", "doctor", "embedding/vectors",
    "intake/counts", "intake/deliveries", "intake/importing", "intake/open_traces",
    "jobs/leases", "log/closing", "log/documents", "log/judgments", "log/mapping", "log/score_maps", "log/scores",
    "log/search_index", "log/successions", "prompts/bench", "prompts/promotion", "reviews/judged",
    "store/backfill", "store/backups", "store/transfers",
}  # fmt: skip

OUTSIDE_SYSTEMS = {"sqlalchemy", "sqlite3", "sklearn", "mlflow", "dvc", "sentence_transformers", "lancedb", "chromadb"}
HEAVY = {"torch", "sentence_transformers", "sklearn", "mlflow", "dvc", "lancedb", "pandas"}


def list_modules(folder: str) -> list[Path]:
    """Every module; migrations are scripts of Alembic's and lie outside the map."""
    found = (PROJECT / folder).rglob("*.py")
    return sorted(path for path in found if path.name != "__init__.py" and "migrations" not in path.parts)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def list_imports(path: Path, *, top_level_only: bool = False) -> tuple[str, ...]:
    """The full names of the modules that a file imports."""
    return tuple(_find_imports(parse(path), path, top_level_only=top_level_only))


def _find_imports(tree: ast.Module, path: Path, *, top_level_only: bool) -> Iterator[str]:
    for node in _nodes_run_at_import(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno} imports relatively; use full names"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if PROJECT.joinpath(*name.split(".")).with_suffix(".py").exists()}
            yield from modules
            if modules != names:
                yield str(node.module)


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


def test_core_imports_no_entry_point_and_no_streamlit() -> None:
    assert find_imports("core", {"app", "pages", "streamlit"}) == []


@pytest.mark.parametrize("folder", ["pages", "app"])
def test_entry_points_reach_outside_systems_through_core_only(folder: str) -> None:
    assert find_imports(folder, OUTSIDE_SYSTEMS) == []


def test_pages_import_no_other_page() -> None:
    assert find_imports("pages", {"pages"}) == []


def name_of(path: Path) -> str:
    """`drift/verdict` for core/drift/verdict.py."""
    return path.relative_to(PROJECT / "core").with_suffix("").as_posix()


def folder_of(name: str) -> str:
    """The subject of a module of core: its folder, or its own name at the top."""
    return name.split("/")[0]


@cache
def layer_of(path: Path) -> int:
    """The layer that the first word of the docstring names."""
    said = ast.get_docstring(parse(path)) or ""
    word = re.split(r"\W", said.lower(), maxsplit=1)[0]
    assert word in LAYERS, f"core/{name_of(path)}.py: begin its docstring with Rule, Gateway or Shell"
    return LAYERS[word]


def list_core() -> dict[str, Path]:
    """Every module of core but the error family, by name."""
    return {name_of(path): path for path in list_modules("core") if path.stem != "errors"}


def list_core_imports(path: Path) -> set[str]:
    """The modules of core that a file imports."""
    found = set()
    for name in list_imports(path):
        parts = name.split(".")
        if parts[0] == "core" and len(parts) > 1:
            found.add("/".join(parts[1:]))
    return found - {"errors"}


def test_every_folder_of_core_has_its_place_on_the_map() -> None:
    assert {folder_of(name) for name in list_core()} | {"errors"} == {*FOLDERS, *TOP}
    assert len(list((PROJECT / "core").glob("[a-z]*.py"))) <= 8


@pytest.mark.parametrize("name", sorted(list_core()))
def test_a_module_imports_its_own_folder_and_those_below_only(name: str) -> None:
    ranks = {folder: rank for rank, folder in enumerate(FOLDERS)} | dict.fromkeys(TOP, len(FOLDERS))
    own = ranks[folder_of(name)]
    used = {other for other in list_core_imports(list_core()[name]) if folder_of(other) != folder_of(name)}
    assert {other for other in used if ranks[folder_of(other)] >= own} == set()


@pytest.mark.parametrize("name", sorted(list_core()))
def test_a_module_imports_its_own_layer_and_those_below_only(name: str) -> None:
    core = list_core()
    own = layer_of(core[name])
    used = {other for other in list_core_imports(core[name]) if other in core}
    assert {other for other in used if layer_of(core[other]) > own} == set()


@pytest.mark.parametrize("folder", ["core", "app", "quarterdeck"])
def test_no_modules_import_each_other(folder: str) -> None:
    modules = {module_name(path): path for path in list_modules(folder)}
    uses = {name: set(list_imports(path)) & set(modules) for name, path in modules.items()}
    while leaves := {name for name, used in uses.items() if not used & set(uses)}:
        uses = {name: used for name, used in uses.items() if name not in leaves}
    assert set(uses) == set(), "these imports are circular"


def test_the_pages_are_listed_in_navigation_only() -> None:
    """A new page is one more title there, and everything that lists pages reads it."""
    names = set(TITLES) - {"overview"}
    listing = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for folder in ("app", "pages", "benchmarks", "docs", "tests")
        for path in list_modules(folder)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Tuple | ast.List | ast.Set)
        if names <= (texts := {each.value for each in node.elts if isinstance(each, ast.Constant)})
        if texts & {"", "overview"}
    ]
    assert listing == []


def module_name(path: Path) -> str:
    """`app.http.api` for app/http/api.py."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def test_rules_touch_no_file_socket_database_clock_or_environment() -> None:
    forbidden = {"os", "io", "pathlib", "socket", "subprocess", "tempfile", "shutil", "time"} | OUTSIDE_SYSTEMS - {
        "sklearn"
    }
    rules = {name: path for name, path in list_core().items() if layer_of(path) == 1}
    found = {name: {each.split(".")[0] for each in list_imports(path)} for name, path in rules.items()}
    assert {name: names & forbidden for name, names in found.items() if names & forbidden} == {}


@pytest.mark.parametrize("folder", ["core", "quarterdeck"])
def test_heavy_libraries_are_imported_inside_functions_only(folder: str) -> None:
    assert find_imports(folder, HEAVY, top_level_only=True) == []


def test_every_action_has_its_row_among_the_permissions() -> None:
    assert set(NEEDS) == set(Action), "add a row to core/audit/permissions.py"


def test_every_action_is_recorded_somewhere_by_its_name() -> None:
    recorded = {
        name.attr
        for path in list_modules("core")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "change.record"
        for name in ast.walk(node.args[0])
        if isinstance(name, ast.Attribute) and ast.unparse(name.value) == "Action"
    }
    assert recorded == {action.name for action in Action}


def list_texts(path: Path) -> Iterator[ast.Constant]:
    """The string literals of a file."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def list_prefixes(path: Path) -> Iterator[ast.Constant]:
    """The texts that an f-string begins with, or that the beginning of a text is compared with."""
    for node in ast.walk(parse(path)):
        found: list[ast.AST] = []
        if isinstance(node, ast.JoinedStr):
            found = list(node.values[:1])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".startswith", ".removeprefix")):
            found = [each for argument in node.args for each in ast.walk(argument)]
        yield from (each for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str))


def find_spelled(
    wanted: Container[str], texts: Callable[[Path], Iterator[ast.Constant]], *, except_in: str
) -> list[str]:
    """`file:line spells text` for each such text outside of one module."""
    return [
        f"{path.relative_to(PROJECT)}:{node.lineno} spells {node.value!r}"
        for folder in ("core", "app", "pages")
        for path in list_modules(folder)
        if path.relative_to(PROJECT).as_posix() != except_in
        for node in texts(path)
        if node.value in wanted
    ]


def test_actions_are_spelled_in_one_module_only() -> None:
    actions, subjects = {str(action) for action in Action}, {f"{subject}." for subject in Subject}
    assert find_spelled(actions, list_texts, except_in="core/audit/actions.py") == []
    assert find_spelled(subjects, list_prefixes, except_in="core/audit/actions.py") == []


def test_the_names_of_settings_are_made_in_one_module_only() -> None:
    families = {str(family) for family in Family if str(family).endswith(":")}
    assert find_spelled(families, list_prefixes, except_in="core/audit/settings.py") == []
    calls = [
        f"{path.relative_to(PROJECT)}:{node.lineno} calls {ast.unparse(node)}"
        for folder in ("core", "app", "pages")
        for path in list_modules(folder)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("get_setting", "save_setting", "SettingKey")
        if isinstance(node.args[-1] if len(node.args) < 3 else node.args[1], ast.Constant | ast.JoinedStr)
    ]
    assert calls == [], "use core.audit.settings.setting_key"


@pytest.mark.parametrize("folder", ["core", "app", "pages"])
def test_the_states_of_audit_entries_are_read_by_their_own_classes(folder: str) -> None:
    reading = [
        f"{path.relative_to(PROJECT)}:{node.lineno} reads {ast.unparse(node)}"
        for path in list_modules(folder)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
        for each in ast.walk(node.value)
        if isinstance(each, ast.Attribute) and each.attr in ("before", "after")
    ]
    assert reading == [], "give the state a class with `to_audit` and `read` in its subject's folder"


def test_every_public_class_has_a_name_of_its_own() -> None:
    """One name per thing: two classes of one name would be taken for each other in searches and imports."""
    places: dict[str, list[str]] = {}
    for folder in ("core", "app", "quarterdeck"):
        for path in list_modules(folder):
            for node in parse(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(path.relative_to(PROJECT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def find_operations() -> Iterator[str]:
    """Every public function of `core/` that takes an act, but for those that make the frame itself."""
    for name, path in list_core().items():
        if path.stem != "acts" and "Act" in path.read_text(encoding="utf-8"):
            module = import_module(f"core.{name.replace('/', '.')}")
            for function_name, function in inspect.getmembers(module, inspect.isfunction):
                own = function.__module__ == module.__name__ and not function_name.startswith("_")
                if own and any(each.annotation is Act for each in inspect.signature(function).parameters.values()):
                    yield f"{name.replace('/', '.')}.{function_name}"


def test_every_operation_is_called_as_every_role_by_a_test() -> None:
    from tests.core.audit.test_permissions import OPERATIONS

    assert set(find_operations()) == set(OPERATIONS), "add a row to OPERATIONS in tests/core/audit/test_permissions.py"


def test_what_is_written_past_the_gate_of_changes_is_observed_and_not_decided() -> None:
    beginning = {
        name
        for name, path in list_core().items()
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("store.begin", "store.begin_in_turn", "begin_appending"))
    }
    assert beginning == OBSERVERS | {"audit/acts"}, (
        "changes go through acts.changing; what only keeps observations says so"
    )


def test_only_entry_points_that_identify_the_actor_make_an_act() -> None:
    making = [
        path.relative_to(PROJECT).as_posix()
        for folder in ("pages", "app")
        for path in list_modules(folder)
        if re.search(r"\bAct\(", path.read_text(encoding="utf-8"))
    ]
    others = {path for path in making if not path.startswith("app/commands/")}
    assert others == {"app/visitor.py", "app/http/v1/callers.py"}


def test_flagds_states_on_and_off_are_known_to_the_view_of_a_definition_only() -> None:
    knowing = {
        path.relative_to(PROJECT).as_posix()
        for folder in ("core", "app", "pages")
        for path in list_modules(folder)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and node.value in ("ENABLED", "DISABLED")
    }
    assert knowing == {"core/flags/definition.py"}, "ask FlagDefinition.is_on, change it by definitions.switch_flag"


@pytest.mark.slow
def test_importing_every_module_loads_no_heavy_library() -> None:
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
        path.relative_to(PROJECT)
        for folder in ("app", "pages")
        for path in list_modules(folder)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and node.attr.startswith("cache_")
    }
    subjects = {PROJECT.joinpath(path).parent.name for path in using if path.name == "resources.py"}
    assert {path.as_posix() for path in using if path.name != "resources.py"} == set()
    assert subjects <= {"app", *TITLES}, "resources are shared by all pages or belong to one"


@pytest.mark.parametrize("folder", ["app", "pages", "core"])
def test_no_html_is_let_through(folder: str) -> None:
    """Except for the script of the keys, which holds nothing that somebody typed."""
    using = [path.name for path in list_modules(folder) if "unsafe_allow_" in path.read_text(encoding="utf-8")]
    assert using == (["keys.py"] if folder == "app" else [])
