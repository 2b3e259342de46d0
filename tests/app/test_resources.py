"""Cached reads are computed once: all parts of a page share them."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st

from app.panels.drift.resources import load_what_changed
from app.panels.overview.resources import load_areas
from core.arms.histories import share_histories
from core.coverage.report import report_coverage
from core.drift.report import report_drift
from core.drift.verdict import decide_drift
from core.log.retrievals import ScopeDays
from core.overview import Standing
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _cold() -> Iterator[None]:
    """Start and end with empty caches."""
    st.cache_resource.clear()
    share_histories.cache_clear()
    yield
    st.cache_resource.clear()
    share_histories.cache_clear()


@pytest.fixture
def drifting(store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home whose log has a drop a week ago, and nothing else in it."""
    rng = np.random.default_rng(3)
    rows = []
    for ago in range(40, 0, -1):
        at, level = NOW - timedelta(days=ago), 0.75 if ago > 7 else 0.55
        scores = np.clip(rng.normal(level, 0.08, 60), 0, 1)
        rows += [Retrieval(at, f"question {n % 20}", float(score)) for n, score in enumerate(scores)]
    append_retrievals(store, rows)
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "tester")
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)


def count_calls(monkeypatch: pytest.MonkeyPatch, *functions: Callable[..., Any]) -> Counter[str]:
    """Count the calls of these functions wherever they were imported to; not those inside their own module."""
    calls: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            calls[function.__name__] += 1
            return function(*arguments, **options)

        return count

    for function in functions:
        counted = counting(function)
        for name, module in list(sys.modules.items()):
            if name.startswith(("app.", "core.")) and name != function.__module__:
                for attribute, value in list(vars(module).items()):
                    if value is function:
                        monkeypatch.setattr(module, attribute, counted)
    return calls


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("drifting")
def test_a_cold_overview_reads_the_log_and_decides_once(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = (decide_drift, report_drift, report_coverage, ScopeDays)
    calls = count_calls(monkeypatch, *functions)
    drift, coverage, *_ = load_areas("production", "default", NOW.date(), readable=True)
    told = load_what_changed(DEFAULT_SCOPE, NOW.date(), readable=True)
    assert drift.standing is Standing.BAD
    assert drift.sentence == told.sentence
    assert coverage.standing is Standing.UNKNOWN  # nothing is grouped yet
    assert calls == {function.__name__: 1 for function in functions}
