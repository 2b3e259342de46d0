"""Every public name of the client, and every public method, shows an example in its docstring, and each one is true."""

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import quarterdeck
from quarterdeck import provider

PUBLIC = {name: getattr(quarterdeck, name) for name in quarterdeck.__all__} | {
    name: getattr(provider, name) for name in provider.__all__
}


def list_documented() -> Iterator[tuple[str, Any]]:
    """The package itself, its public names, and the public methods and properties that a public class defines."""
    yield "quarterdeck", quarterdeck
    for name, found in PUBLIC.items():
        yield name, found
        if inspect.isclass(found):
            for method, defined in vars(found).items():
                is_own = callable(defined) or isinstance(defined, classmethod | staticmethod | property)
                if is_own and not method.startswith("_"):
                    yield f"{name}.{method}", defined


DOCUMENTED = dict(list_documented())


def find_examples(name: str) -> list[doctest.DocTest]:
    """The examples of one docstring, run with the names of its module at hand."""
    found = DOCUMENTED[name]
    described = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    module = found if inspect.ismodule(found) else importlib.import_module(described.__module__)
    text = inspect.cleandoc(found.__doc__ or "")
    test = doctest.DocTestParser().get_doctest(text, {**PUBLIC, **vars(module)}, name, None, 0)
    return [test] if test.examples else []


@pytest.mark.deep
@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_shows_an_example_that_is_true(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    examples = find_examples(name)
    assert examples, f"{name} has no example in its docstring"
    said: list[str] = []
    for test in examples:
        assert not any(doctest.SKIP in example.options for example in test.examples)
        doctest.DocTestRunner().run(test, out=said.append)
    assert said == []


def test_the_list_of_public_names_holds_what_services_use() -> None:
    assert {
        "Quarterdeck.log_retrieval", "Quarterdeck.from_definitions", "Quarterdeck.snapshot", "Quarterdeck.refresh",
        "CanaryRouter.route", "Route.log_retrieval", "Retrieval.ts_ms", "QuarterdeckProvider.track", "InvalidInput",
    } <= set(DOCUMENTED)  # fmt: skip


def test_the_flags_of_a_client_without_a_store_are_in_its_snapshot_by_key() -> None:
    flags = {"a": {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}}
    assert quarterdeck.Quarterdeck.from_definitions({"flags": flags}).snapshot.definitions == flags
