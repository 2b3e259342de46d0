"""The file that says what is deployed here: every wrong field is named, nothing is guessed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config import PROJECT
from core.deployments.colors import Color
from core.deployments.services import DriverKind, get_service, load_services
from core.errors import InvalidInput, NotFound, SourceUnavailable

LEAST: dict[str, Any] = {
    "command": ["serve", "--port", "{port}"], "blue": "127.0.0.1:8601", "green": "127.0.0.1:8602",
    "upstream": "nginx/answers.conf", "address": "http://127.0.0.1:8080",
}  # fmt: skip


def define(path: Path, **services: Any) -> Path:
    path.write_text(yaml.safe_dump({"services": services}))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deployments.yaml"


def test_five_fields_are_enough_and_paths_are_beside_the_file(file: Path) -> None:
    (service,) = load_services(define(file, answers=LEAST))
    assert (service.driver, service.health, service.keep_minutes) == (DriverKind.PROCESS, "/healthz", 30)
    assert service.upstream == file.parent / "nginx" / "answers.conf"
    assert service.directory == file.parent
    assert service.find_upstream(Color.GREEN) == service.find(Color.GREEN) == "127.0.0.1:8602"


def test_nginx_may_know_a_color_by_another_address(file: Path) -> None:
    define(file, answers={**LEAST, "green_upstream": "answers-green:8000"})
    assert get_service(file, "answers").find_upstream(Color.GREEN) == "answers-green:8000"


@pytest.mark.parametrize("field", ["command", "blue", "green", "upstream", "address"])
def test_a_field_that_is_missing_is_named(file: Path, field: str) -> None:
    define(file, answers={name: value for name, value in LEAST.items() if name != field})
    with pytest.raises(InvalidInput, match=rf"^answers\.{field}: is missing$"):
        load_services(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", "serve"), ("command", []), ("command", ["serve", 1]), ("blue", 8601), ("blue", "8601"),
        ("green", "127.0.0.1:8602; evil"), ("green", "127.0.0.1:8601"), ("address", "https://a"),
        ("address", "http://127.0.0.1:80/path"), ("health", "healthz"), ("health", "/a b"), ("keep_minutes", -1),
        ("keep_minutes", float("nan")), ("keep_minutes", True), ("keep_minutes", "30"), ("driver", "kubernetes"),
        ("nginx", "nginx"), ("upstream", ""), ("healht", "/healthz"), ("name", "other"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named(file: Path, field: str, value: Any) -> None:
    define(file, answers={**LEAST, field: value})
    with pytest.raises(InvalidInput, match=rf"^answers\.{field}: "):
        load_services(file)


@pytest.mark.parametrize("name", ["Answers", "a b", "a" * 41, "../a", "a;b", "1a"])
def test_a_service_whose_name_could_not_stand_in_nginx_is_refused(file: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="services"):
        load_services(define(file, **{name: LEAST}))


@pytest.mark.parametrize("text", ["services: [", "[]", "services: {}", "services: {a: 1}", "a: 1", ""])
def test_a_file_that_defines_no_service_is_refused_in_one_line(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_services(file)
    assert "\n" not in str(refused.value)


def test_without_a_file_there_is_no_service_and_asking_for_one_says_where_it_was_looked_for(file: Path) -> None:
    assert load_services(file) == ()
    with pytest.raises(NotFound, match="deployments.yaml does not exist"):
        get_service(file, None)
    file.mkdir()
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        load_services(file)


def test_of_several_services_one_has_to_be_named(file: Path) -> None:
    define(file, answers=LEAST, search=LEAST)
    assert get_service(file, "search").name == "search"
    with pytest.raises(NotFound, match="which one"):
        get_service(file, None)
    with pytest.raises(NotFound, match="no 'other'; there are: answers, search"):
        get_service(file, "other")


@pytest.mark.parametrize("path", sorted((PROJECT / "deploy").rglob("deployments*.yaml")), ids=lambda path: path.name)
def test_the_definitions_in_deploy_can_be_used(path: Path) -> None:
    assert load_services(path)
