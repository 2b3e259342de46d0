"""Gateway to the questions in saved predictions: some of them are forgotten, their scores stay."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, select

from core.audit.settings import Family, SettingKey, save_setting
from core.log.values import normalize_query
from quarterdeck.schema import settings
from quarterdeck.store import Store


def count_mentions(store: Store, texts: Collection[str]) -> int:
    """Return how many queries of saved predictions have one of these normalized texts."""
    with store.read() as connection:
        return sum(len(queries) for *_, queries in _find(connection, texts))


def forget_texts(connection: Connection, texts: Collection[str]) -> None:
    """Replace these normalized texts in saved predictions by an empty one, in an open transaction."""
    for name, version, prediction, queries in list(_find(connection, texts)):
        for query in queries:
            query["text"] = ""
        save_setting(connection, name, prediction, expected_version=version)


def _find(
    connection: Connection, texts: Collection[str]
) -> Iterator[tuple[SettingKey, int, dict[str, Any], list[dict[str, Any]]]]:
    wanted, c = set(texts), settings.c
    query = select(c.name, c.version, c.value).where(c.name.startswith(Family.PREDICTION, autoescape=True))
    for name, version, value in connection.execute(query):
        prediction = json.loads(value)
        found = [each for each in prediction.get("queries", ()) if normalize_query(each["text"]) in wanted]
        if found:
            yield SettingKey(name), version, prediction, found
