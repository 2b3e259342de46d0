"""The docs leave nothing out: every command and option, setting, metric, HTTP route and public name, each decision."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import quarterdeck
from app.http.api import ROUTES
from app.http.observing import REGISTRY
from core.config import PROJECT, load_config
from core.prompts.models import Protocols
from docs import api_reference
from docs.command_reference import SHARED, TARGET, describe_commands, list_commands, main

DOCS = PROJECT / "docs"
REFERENCE = DOCS / "reference"
# Between the pages and the commands that they start; of every program; of a test.
NOT_SETTINGS = {"QUARTERDECK_PROGRESS", "PATH", "QUARTERDECK_CRASH_ROUNDS"}
COMMANDS = dict(list_commands(main))


def read_cells(path: Path, column: int = 0) -> list[str]:
    """What stands in code in one column of a page's tables."""
    rows = re.findall(r"^\| (`.*?) \|$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[column])]


def read_sections(path: Path, level: int) -> dict[str, str]:
    """The sections of a page by their heading."""
    parts = re.split(rf"^{'#' * level} (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: text.split(f"\n{'#' * (level - 1)} ")[0] for heading, text in zip(parts[1::2], parts[2::2])}  # noqa: B905


def test_the_page_of_the_commands_is_what_they_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == describe_commands(), "run: .venv/bin/python -m docs.command_reference"


def test_the_page_of_the_api_is_what_its_document_says() -> None:
    page = api_reference.TARGET.read_text(encoding="utf-8")
    assert page == api_reference.describe_api(), "run: .venv/bin/python -m docs.api_reference"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_documented(name: str) -> None:
    section = read_sections(TARGET, 2)[name]
    options = [each for each in COMMANDS[name].params if isinstance(each, click.Option)]
    names = {opt for each in options for opt in (*each.opts, *each.secondary_opts)} - set(SHARED)
    assert {opt for opt in names if f"`{opt}`" not in section} == set()
    assert [each.opts for each in options if not each.help] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_shown_in_use(name: str) -> None:
    guides = [PROJECT / "README.md", *(path for path in DOCS.rglob("*.md") if path != TARGET)]
    texts = [path.read_text(encoding="utf-8") for path in guides]
    assert any(re.search(rf"quarterdeck {name}(?![\w-])", text) for text in texts)


class _Watched(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)  # type: ignore[arg-type]


def list_asked() -> set[str]:
    """The variables that the configuration asks for, with a login and with a proxy."""
    login = {
        "QUARTERDECK_OIDC_METADATA_URL": "https://id.example.org/.well-known/openid-configuration",
        "QUARTERDECK_OIDC_CLIENT_ID": "deck", "QUARTERDECK_OIDC_CLIENT_SECRET": "secret",
        "QUARTERDECK_COOKIE_SECRET": "a-secret-of-the-tests-for-cookies", "QUARTERDECK_PUBLIC_URL": "https://deck.example.org",
    }  # fmt: skip
    asked: set[str] = set()
    for given in (login, {"QUARTERDECK_PROXY_USER_HEADER": "X-User", "QUARTERDECK_PROXY_ADDRESSES": "10.0.0.1"}):
        watched = _Watched(given)
        load_config(watched)
        asked |= watched.asked
    return asked


def list_named(source: str) -> Iterator[str]:
    """The variables that code names: our own anywhere, others where they are read from or put into an environment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^QUARTERDECK_[A-Z_]*[A-Z]$", node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            named = node.args[0]
            asks = node.func.attr in ("get", "setdefault", "pop") and "environ" in ast.unparse(node.func.value)
            if (asks or node.func.attr == "getenv") and isinstance(named, ast.Constant):
                yield str(named.value)
        if isinstance(node, ast.Subscript) and "environ" in ast.unparse(node.value).split("."):
            yield from [str(node.slice.value)] if isinstance(node.slice, ast.Constant) else []


def list_settings() -> set[str]:
    """Every environment variable that the product reads, or sets for its libraries."""
    sources = [path for folder in ("app", "core", "pages", "quarterdeck") for path in (PROJECT / folder).rglob("*.py")]
    named = {name for path in sources for name in list_named(path.read_text(encoding="utf-8"))}
    keys = {f"{protocol.value.upper()}_API_KEY" for protocol in Protocols}
    return (list_asked() | named | keys) - NOT_SETTINGS


def test_every_setting_is_documented_and_no_other() -> None:
    documented = [name for name in read_cells(DOCS / "settings.md") if re.fullmatch(r"[A-Z_]+", name)]
    assert sorted(documented) == sorted(list_settings())


def test_no_guide_names_a_setting_that_there_is_not() -> None:
    settings = list_settings() | NOT_SETTINGS
    texts = [path.read_text(encoding="utf-8") for path in (PROJECT / "README.md", *DOCS.rglob("*.md"))]
    told = {name for text in texts for name in re.findall(r"QUARTERDECK_[A-Z_]*[A-Z]", text)}
    assert {name for name in told if not any(each.startswith(name) for each in settings)} == set()


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    families = {f"{each.name}_total" if each.type == "counter" else each.name: each for each in REGISTRY.collect()}
    page = DOCS / "metrics.md"
    assert sorted(read_cells(page)) == sorted(families)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: kind for name, kind, _ in rows} == {name: each.type for name, each in families.items()}
    collectors = [each for each in REGISTRY._collector_to_names if hasattr(each, "_labelnames")]
    labels = {f"{each._name}{'_total' * (each._type == 'counter')}": set(each._labelnames) for each in collectors}
    told = {name: set(re.findall(r"`(\w+)`", cell)) for name, _, cell in rows}
    assert {name: told[name] for name in labels} == labels


def list_routes() -> dict[str, str]:
    """Each route as the page names it, with the scope that its handler asks for ("none" for none)."""
    found = {}
    for route in ROUTES:
        scope = re.search(r"(?:Scope|Access)\.([A-Z]+)", inspect.getsource(route.endpoint))
        for method in sorted((route.methods or set()) - {"HEAD"}):
            found[f"`{method} {route.path.replace(':path', '')}`"] = scope[1].lower() if scope else "none"
    return found


def test_every_route_is_documented_with_its_scope_request_answer_and_errors() -> None:
    sections, routes = read_sections(REFERENCE / "http.md", 3), list_routes()
    assert sorted(sections) == sorted(routes)
    scopes = {name: re.findall(r"^- \*\*Scope:\*\* `?(\w+)", text, re.MULTILINE) for name, text in sections.items()}
    assert scopes == {name: [scope] for name, scope in routes.items()}
    parts = ["Scope", "Request", "Answer", "Errors"]
    assert {name for name, text in sections.items() if re.findall(r"^- \*\*(\w+):\*\*", text, re.M) != parts} == set()


def test_every_public_name_of_the_client_is_in_the_reference() -> None:
    pages = "".join((REFERENCE / name).read_text(encoding="utf-8") for name in ("python.md", "provider.md"))
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    public = [f"quarterdeck.{name}" for name in quarterdeck.__all__]
    assert sorted(shown) == sorted([*public, "quarterdeck.provider.QuarterdeckProvider"])


def test_every_decision_is_numbered_dated_and_listed() -> None:
    files = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in files] == list(range(1, len(files) + 1))
    rows = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        head = re.match(r"# (\d{4})\. (.+)\n\n- Status: (\w.*)\n- Date: (\d{4}-\d{2}-\d{2})", text)
        assert head is not None, path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Given up"], path.name
        rows.append(f"| [{head[1]}]({path.name}) | {head[2]} | {head[4]} |")
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[.*$", index, re.MULTILINE) == rows


def load_site() -> dict[str, Any]:
    """The settings of the docs site."""

    class Loader(yaml.SafeLoader):
        """Reads mkdocs.yml without the functions that it names."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
    found: dict[str, Any] = yaml.load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    return found


def test_every_page_of_the_docs_is_in_the_navigation() -> None:
    navigation = str(load_site()["nav"])
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    hidden = {name for name in pages if name.startswith("decisions/") and name != "decisions/index.md"}
    assert {name for name in pages - hidden if f"'{name}'" not in navigation} == set()


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    site = load_site()
    assert site["theme"]["font"] is False
    added = [*site.get("extra_css", []), *site.get("extra_javascript", [])]
    assert [name for name in added if not (DOCS / name).is_file()] == []
    pictures = [name for path in DOCS.rglob("*.md") for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text())]
    assert [name for name in pictures if "//" in name] == []
