"""Files of questions: everything that a question holds, and nothing that a spreadsheet runs."""

import csv
import io
import json
from datetime import UTC, datetime

from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.log.services import ServiceSettings
from core.questions.files import to_record, write_csv, write_lines
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store


def test_both_kinds_hold_the_whole_question(store: Store) -> None:
    row = Retrieval(
        datetime(2026, 3, 1, tzinfo=UTC), "=1+1", documents=[("a.md", 0.9)], attributes={"tenant": "ä"},
        retrieval_id="q-1", trace_id="t 1",
    )  # fmt: skip
    append_retrievals(store, [row])
    settings = ServiceSettings("default", trace_link="https://traces/{trace_id}")
    records = [to_record(question, settings) for question in list_page(store, QuestionFilter()).questions]
    (line,) = write_lines(records).splitlines()
    told = json.loads(line)
    assert (told["query"], told["ts"], told["trace_link"]) == (
        "=1+1",
        "2026-03-01T00:00:00+00:00",
        "https://traces/t%201",
    )
    assert (told["documents"], told["attributes"]) == ([{"id": "a.md", "score": 0.9, "rank": 1}], {"tenant": "ä"})
    (cells,) = csv.DictReader(io.StringIO(write_csv(records)))
    assert cells["query"] == "'=1+1"
    assert json.loads(cells["documents"]) == told["documents"]
    assert write_csv([]) == ""
