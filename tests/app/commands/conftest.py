"""Stores for the tests of several commands."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store

ACT = Act("tester", "set up")


@pytest.fixture
def flags(store: Store) -> Store:
    """A store with one flag that is rolled out to 20% and one that is off."""
    create_flag(store, "new_prompt_v3", boolean_flag(on=True, rollout_pct=20), ACT)
    create_flag(store, "use_hyde", boolean_flag(on=False), ACT)
    return store


@pytest.fixture
def lab(store: Store) -> Store:
    """A log by hand: 100 good queries, all dated 15 days ago, and 50 bad ones within the last seven days."""
    rng, now = random.Random(7), datetime.now(UTC)
    good = [
        Retrieval(now - timedelta(days=15), f"how do I size the mempool {at}", rng.uniform(0.75, 0.90))
        for at in range(100)
    ]
    bad = [
        Retrieval(now - timedelta(hours=rng.uniform(0, 140)), f"what is a vpp node {at}", rng.uniform(0.20, 0.40))
        for at in range(50)
    ]
    append_retrievals(store, good + bad)
    return store
