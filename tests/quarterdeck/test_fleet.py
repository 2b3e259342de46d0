"""A flagd fleet that reads our export answers as our client does: flagd's own in-process provider is asked."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.audit.acts import Act
from core.flags.operations import import_flags
from quarterdeck import InvalidInput, Quarterdeck
from quarterdeck.documents import resolve_references
from quarterdeck.store import Store
from quarterdeck.validation import validate_definition
from tests.flag_generator import Case, _evaluation_context, _shown, make_cases, our_answer

ME = Act("ada", "because")


@pytest.fixture(autouse=True)
def _quiet_flagd() -> Iterator[None]:
    """flagd reports odd contexts as errors; thousands of them are meant here."""
    logger = logging.getLogger("openfeature.contrib")
    logger.disabled = True
    yield
    logger.disabled = False


def savable_cases(seed: int, pairs: int) -> Iterator[tuple[str, dict[str, Any], Case]]:
    """Generated flags that a store takes, each under a key of its own, until there are `pairs` questions."""
    for number, case in enumerate(make_cases(seed, 20 * pairs)):
        resolved = resolve_references(case.document["flags"], case.document.get("$evaluators") or {})
        (definition,) = resolved.values()
        key = f"{next(iter(resolved))}-{number}"
        try:
            validate_definition(key, definition)
        except InvalidInput:
            continue
        yield key, definition, case
        pairs -= len(case.contexts)
        if pairs <= 0:
            return


def fetch_export(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What `/flagd/flags.json` gives, as the file that a flagd in file mode reads."""
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as client:
        answer = client.get("/flagd/flags.json")
    backends.close()
    assert answer.status_code == 200
    exported = tmp_path / "flags.json"
    exported.write_bytes(answer.content)
    return exported


def ask_flagd(provider: FlagdProvider, key: str, default: Any, context: dict[str, Any] | None) -> Any:
    """Value, variant, reason and error code as an OpenFeature client would see them."""
    resolve = {
        bool: provider.resolve_boolean_details, str: provider.resolve_string_details,
        int: provider.resolve_integer_details, float: provider.resolve_float_details,
    }.get(type(default), provider.resolve_object_details)  # fmt: skip
    try:
        found = resolve(key, default, EvaluationContext() if context is None else _evaluation_context(context))
    except OpenFeatureError as error:
        return _shown(default), None, "ERROR", error.error_code.value
    except Exception:  # noqa: BLE001 - a client gives whatever a provider raises the code GENERAL
        return _shown(default), None, "ERROR", "GENERAL"
    return _shown(found.value), found.variant, str(found.reason.value), None


def compare(pairs: int, store: Store, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[int, list]:
    cases = list(savable_cases(7, pairs))
    import_flags(store, {"flags": {key: definition for key, definition, _ in cases}}, ME)
    exported = fetch_export(url, monkeypatch, tmp_path)
    assert len(json.loads(exported.read_bytes())["flags"]) == len(cases)
    fleet = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(exported))
    fleet.initialize(EvaluationContext())
    asked, differences = 0, []
    with Quarterdeck(url, snapshot_path=tmp_path / "s.json") as deck:
        for key, definition, case in cases:
            for context, default in zip(case.contexts, case.defaults, strict=True):
                theirs, ours = ask_flagd(fleet, key, default, context), our_answer(deck.evaluate(key, default, context))
                asked += 1
                if theirs != ours:
                    differences.append((definition, context, default, theirs, ours))
    fleet.shutdown()
    return asked, differences


@pytest.mark.deep
def test_flagd_reads_the_export_and_answers_as_the_client_does(store, url, monkeypatch, tmp_path):
    asked, differences = compare(3_000, store, url, monkeypatch, tmp_path)
    assert asked >= 3_000
    assert differences == []


@pytest.mark.deep
@pytest.mark.sqlite_only("it compares evaluations, whatever store the flags come from")
def test_flagd_agrees_on_a_hundred_thousand_pairs(store, url, monkeypatch, tmp_path):
    asked, differences = compare(
        int(os.environ.get("QUARTERDECK_FLAG_PAIRS", "100000")), store, url, monkeypatch, tmp_path
    )
    print(f"{asked:,} pairs: {len(differences)} differ")
    assert asked >= 100_000
    assert differences == []
