"""The shared store's tables. `triggers.py` keeps the rollups complete, whoever inserts a row.

Only the schema lives here; `store.py` and the deck's gateways read and write it.
Times are integer milliseconds since the epoch, UTC. Money is in USD. Scores and shares are 0 to 1.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from quarterdeck.clock import now_ms

REVISION = "0007_serves_0003"  # clients of 0003 still write to this schema: its triggers count their rows
HISTOGRAM_BINS = 50
EMPTY_BIN = -1
ROLLUP_LOCK = 0x726F6C6C  # "roll": PostgreSQL's advisory lock while a writer updates the rollups
DIMENSIONS = ("arm", "prompt_version", "index_version", "model")
METRICS = ("latency_ms", "cost_usd", "tokens", "faithfulness", "feedback")  # a row's own numbers, besides its score
SEARCH_SLICE = 32_768  # consecutive row numbers whose terms are packed together
LOW_SCORE_CEILING = 0.6  # scores below it are indexed with their query, for the coverage page
FIRST_SCOPE = 1  # the id of the scope of rows that name none: production, default
COUNTED_BY_WRITER = 2  # in `rolled_up`: the writer updated the rollups; anything less is counted by the triggers
MOST_VALUES = 200  # of a dimension that are counted by name on one day
MOST_DOCUMENTS = 20_000  # of a scope that are counted by name on one day
OTHER = "(other)"  # counts the values beyond these bounds

metadata = MetaData()
_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

alembic_version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

# Who reports: an environment and a service in it. Rows refer to it by its id.
scopes = Table(
    "scopes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("service", String(128), nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    UniqueConstraint("environment", "service", name="one_scope_a_service"),
)

# One user query. `score` is the similarity of the best hit, 0 to 1; null if there is none (yet): see `state`.
# `raw_score` is the retriever's own number where that is another one, and `score_kind` says what it is (null: cosine).
# `state` is one of `quarterdeck.retrieval.STATES` by its place; rows of earlier releases have none: scored or empty.
# `documents` and `attributes` are JSON. `weight` is how many questions the row stands for (null: 1).
# `retrieval_id` is unique in its scope: what is known elsewhere must not show, and nobody takes an id from another.
# `rolled_up` is COUNTED_BY_WRITER on rows whose writer updated the rollups itself; triggers do it for all others.
retrievals = Table(
    "retrievals",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("query", Text, nullable=False),
    Column("score", Double),
    Column("session_id", Text),
    Column("arm", Text),
    Column("prompt_version", Text),
    Column("index_version", Text),
    Column("latency_ms", Double),
    Column("cost_usd", Double),
    Column("faithfulness", Double),
    Column("feedback", Double),
    Column("rolled_up", Integer, nullable=False, server_default="0"),
    Column("scope_id", Integer, nullable=False, server_default=str(FIRST_SCOPE)),
    Column("retrieval_id", Text),
    Column("user_id", Text),
    Column("model", Text),
    Column("raw_score", Double),
    Column("score_kind", Text),
    Column("state", Integer),
    Column("documents", Text),
    Column("attributes", Text),
    Column("trace_id", Text),
    Column("span_id", Text),
    Column("answer", Text),
    Column("tokens", Double),
    Column("answerability", Double),
    Column("weight", Integer),
    Index("retrievals_by_scope", "scope_id", "ts_ms", "score"),
    Index(
        "retrievals_by_name",
        "retrieval_id",
        "scope_id",
        unique=True,
        sqlite_where=text("retrieval_id IS NOT NULL"),
        postgresql_where=text("retrieval_id IS NOT NULL"),
    ),
)


# Each batch updates the same few rows: free space on their page lets PostgreSQL update in place (HOT).
_OFTEN_UPDATED = {"fillfactor": 40}


def _former_rollup(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("start_ms", BigInteger, primary_key=True),
        Column("arm", Text, primary_key=True),
        Column("prompt_version", Text, primary_key=True),
        Column("index_version", Text, primary_key=True),
        Column("bin", Integer, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Double, nullable=False),
        Column("total_squares", Double, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with=_OFTEN_UPDATED,
    )


BINS = tuple(f"b{number:02}" for number in range(HISTOGRAM_BINS))

# What clients of 0003 add to. Nobody reads these tables; the migration to 0004 emptied them.
_FORMER_ROLLUPS = (
    _former_rollup("rollups_hour"),
    _former_rollup("rollups_day"),
    Table(
        "rollups_daily",
        metadata,
        Column("dimension", String(32), primary_key=True),
        Column("value", Text, primary_key=True),
        Column("start_ms", BigInteger, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Double, nullable=False),
        Column("total_squares", Double, nullable=False),
        Column("empty", BigInteger, nullable=False),
        *(Column(name, BigInteger, nullable=False) for name in BINS),
        sqlite_with_rowid=False,
        postgresql_with=_OFTEN_UPDATED,
    ),
)


def _series(*further: Column[Any]) -> list[Column[Any]]:
    """Return what a rollup counts: one value of one dimension of a scope; "" and "" are all its rows."""
    return [
        Column("scope_id", Integer, primary_key=True, autoincrement=False),
        Column("dimension", String(64), primary_key=True),
        Column("value", Text, primary_key=True),
        *further,
    ]


# The sums of a histogram of similarities. `n` questions have one, in `logged` rows (more than one question a row if the
# service samples). The others are counted by state: `unmapped` have a number that is no similarity yet.
SUMS = ("n", "logged", "total", "total_squares", "unmapped", "unscored", "empty", "failed", *BINS)


def _sums() -> list[Column[Any]]:
    return [Column(name, Double if "total" in name else BigInteger, nullable=False) for name in SUMS]


# By hour, for all rows of a scope and for each value of a dimension.
rollups = Table(
    "rollups",
    metadata,
    *_series(Column("start_ms", BigInteger, primary_key=True)),
    *_sums(),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# The same by day of the service's time zone, as the deck closed it. `counted` and `summed` are the hours' count of
# questions and total of similarities then: where they differ now, rows came later and the day is read by hours.
# `histogram` holds the counts of the bins, separated by commas: 50 columns take ten times as long to read.
# `capped` is the mean in which no session and no text weighs more than 1% of the day.
days = Table(
    "days",
    metadata,
    *_series(Column("day", String(10), primary_key=True)),
    *(column for column in _sums() if column.name not in BINS),
    Column("histogram", Text, nullable=False),
    Column("counted", BigInteger, nullable=False),
    Column("summed", Double, nullable=False),
    Column("capped", Double),
    sqlite_with_rowid=False,
)

# Numbers other than the similarity, by name: METRICS and the scores that came later.
metric_sums = Table(
    "metric_sums",
    metadata,
    *_series(Column("metric", String(128), primary_key=True), Column("start_ms", BigInteger, primary_key=True)),
    Column("n", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("total_squares", Double, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# Their histograms by UTC day, in the bins of `quarterdeck.rollups.bin_of`.
metric_bins = Table(
    "metric_bins",
    metadata,
    *_series(
        Column("metric", String(128), primary_key=True),
        Column("day_ms", BigInteger, primary_key=True),
        Column("bin", Integer, primary_key=True),
    ),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# The values of a dimension that are counted by name on a UTC day: the first MOST_VALUES.
dimension_values = Table(
    "dimension_values",
    metadata,
    Column("scope_id", Integer, primary_key=True, autoincrement=False),
    Column("dimension", String(64), primary_key=True),
    Column("day_ms", BigInteger, primary_key=True),
    Column("value", Text, primary_key=True),
    sqlite_with_rowid=False,
)

TENTHS = tuple(f"t{number}" for number in range(10))
DOCUMENT_SUMS = ("n", "firsts", "rank_total", "scored", "score_total", "bad", *TENTHS)

# How often a document was among the hits on a UTC day, how often it was the first, the sum of its ranks (from 1) and of
# its similarities where it has one; and of the questions: the histogram of their similarity in tenths, bad feedback.
document_days = Table(
    "document_days",
    metadata,
    Column("scope_id", Integer, primary_key=True, autoincrement=False),
    Column("day_ms", BigInteger, primary_key=True),
    Column("document", Text, primary_key=True),
    *(Column(name, Double if name == "score_total" else BigInteger, nullable=False) for name in DOCUMENT_SUMS),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# The same for 1, 2, 4 … 64 whole UTC days at once, in one value: 90 days of 20,000 documents are millions of rows.
# `counted` and `summed` are as in `days`. What changes the documents of a day otherwise deletes its packs.
document_packs = Table(
    "document_packs",
    metadata,
    Column("scope_id", Integer, primary_key=True, autoincrement=False),
    Column("days", Integer, primary_key=True, autoincrement=False),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("counted", BigInteger, nullable=False),
    Column("summed", Double, nullable=False),
    Column("packed", LargeBinary, nullable=False),
)

# Where the terms of questions occur, by slices of consecutive row numbers (`core.log.search_packs`). The deck packs
# slices that are full, once `packed_ms` is not null they count. Deleting or changing a row of one deletes the slice.
search_slices = Table(
    "search_slices",
    metadata,
    Column("slice", BigInteger, primary_key=True, autoincrement=False),
    Column("noted_ms", BigInteger, nullable=False),
    Column("packed_ms", BigInteger),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)

search_packs = Table(
    "search_packs",
    metadata,
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("slice", BigInteger, primary_key=True, autoincrement=False),
    Column("packed", LargeBinary, nullable=False),
)

# A judgment of an answer that came after its row, or before it: by its name and who gave it. The environment is part
# of the key, so that nobody replaces scores of another one. The deck adds pending ones to the rollups (`pending` is 1,
# or 2 if only a row of the same service may have the score); `applied` is the value that it added last.
scores = Table(
    "scores",
    metadata,
    Column("retrieval_id", String(256), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("source", String(128), primary_key=True),
    Column("value", Double, nullable=False),
    Column("comment", Text, nullable=False, server_default=""),
    Column("environment", String(64), primary_key=True),
    Column("service", String(128), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("applied", Double),
    Column("pending", Integer, nullable=False, server_default="1"),
    Index(
        "scores_to_apply",
        "retrieval_id",
        "received_ms",
        sqlite_where=text("pending > 0"),
        postgresql_where=text("pending > 0"),
    ),
    sqlite_with_rowid=False,
)

# How numbers of a kind without bounds become similarities: quantiles as JSON, frozen, by version.
score_maps = Table(
    "score_maps",
    metadata,
    Column("scope_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("quantiles", Text, nullable=False),
    Column("learned_from", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

# What came in and what did not, by hour, entry point and reason ("" is what was taken). `example` is one refused input,
# redacted and shortened.
intake = Table(
    "intake",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("service", String(128), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("reason", String(64), primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("example", Text, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Spans of traces that are still open: what a span says about a question, as JSON. A trace is closed a minute after its
# last span came; `settled` is 1 once its rows were stored and no span came since, 2 on a search that was refused.
# `environment` is the one that the sender may write in, "" for a sender without a token: traces never cross it.
trace_spans = Table(
    "trace_spans",
    metadata,
    Column("environment", String(64), primary_key=True, server_default=""),
    Column("trace_id", String(64), primary_key=True),
    Column("span_id", String(32), primary_key=True),
    Column("body", Text, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("settled", Integer, nullable=False, server_default="0"),
    Index("trace_spans_by_age", "received_ms"),
    Index(
        "trace_spans_waiting",
        "received_ms",
        sqlite_where=text("settled = 0"),
        postgresql_where=text("settled = 0"),
    ),
    sqlite_with_rowid=False,
)

# Changes that other systems report, such as deploys and feed outages: by their name in the source. The service "" is
# all of the environment's; `reach` is the largest share of users who can have been affected.
outside_changes = Table(
    "outside_changes",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("service", String(128), primary_key=True),
    Column("source", String(16), primary_key=True),
    Column("external_id", String(256), primary_key=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("title", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reach", Double, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("outside_changes_by_time", "environment", "ts_ms"),
    sqlite_with_rowid=False,
)

flags = Table(
    "flags",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
)

# Small named values as JSON, each with a version for optimistic locking.
settings = Table(
    "settings",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("value", Text, nullable=False),
    Column("version", Integer, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("previous_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("previous_hash", name="audit_chain_is_a_line"),
)

indexes = Table(
    "indexes",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("location", Text, nullable=False),
    Column("corpus_version", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("built_ms", BigInteger, nullable=False),
    Column("built_by", Text, nullable=False),
    Column("chunking", Text, nullable=False, server_default=""),
    Column("state", String(16), nullable=False, server_default="ready"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("alias", String(256), primary_key=True),
    Column("index_name", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("query_hash", LargeBinary(16), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)


# Coverage gaps seen so far, so that a gap keeps its id, and what was decided about each.
topics = Table(
    "topics",
    metadata,
    Column("topic_id", String(64), primary_key=True),
    Column("label", Text, nullable=False),
    Column("model", String(256), nullable=False),
    Column("centroid", LargeBinary, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("scope_id", Integer, nullable=False, server_default=str(FIRST_SCOPE)),
)

# Questions that reviewers are asked to label, one after another. `task` is the name of the score that a label gives,
# `reviewers` a JSON list of names. `rule` says how the questions were chosen: only those of `random` correct a judge's
# mean. `closed_ms` is null while the queue is open.
review_queues = Table(
    "review_queues",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("service", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("task", String(128), nullable=False),
    Column("rule", String(32), nullable=False),
    Column("reviewers", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("closed_ms", BigInteger),
    UniqueConstraint("environment", "service", "name", name="one_queue_a_name"),
)

# The questions of a queue in the order in which they are shown. `asked_ms` is when the question was asked.
review_items = Table(
    "review_items",
    metadata,
    Column("queue_id", BigInteger, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("environment", String(64), nullable=False),
    Column("retrieval_id", String(256), nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Index("review_items_by_question", "retrieval_id", "environment"),
    sqlite_with_rowid=False,
)

# What each reviewer said: the score of the source `reviewer` is the mean of these. `value` is null for a skipped one.
review_labels = Table(
    "review_labels",
    metadata,
    Column("queue_id", BigInteger, primary_key=True, autoincrement=False),
    Column("retrieval_id", String(256), primary_key=True),
    Column("reviewer", String(256), primary_key=True),
    Column("environment", String(64), nullable=False),
    Column("value", Double),
    Column("note", Text, nullable=False),
    Column("labeled_ms", BigInteger, nullable=False),
    Index("review_labels_by_question", "retrieval_id", "environment"),
    sqlite_with_rowid=False,
)

# Answers of the log that a judge scored in the background, by what was judged; `judge` is its name and version. The
# value is null, and `problem` says why, where there is none. `drawn` is 1 for answers of the daily random sample, 0 for
# those that are in a review queue.
judged_answers = Table(
    "judged_answers",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("retrieval_id", String(256), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("service", String(128), nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("judge", String(128), nullable=False),
    Column("value", Double),
    Column("problem", Text, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("drawn", Integer, nullable=False),
    Column("judged_ms", BigInteger, nullable=False),
    Index("judged_answers_by_time", "environment", "service", "name", "asked_ms"),
    Index("judged_answers_by_day", "judged_ms"),
    sqlite_with_rowid=False,
)

# Questions that somebody took out of a topic: by the hash of their text, as in `vectors`.
topic_exclusions = Table(
    "topic_exclusions",
    metadata,
    Column("topic_id", String(64), primary_key=True),
    Column("query_hash", LargeBinary(16), primary_key=True),
    Column("excluded_ms", BigInteger, nullable=False),
    Column("excluded_by", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Sets of evaluation cases, with the version that the next writer has to expect. At most one is the golden set of index
# swaps.
case_sets = Table(
    "case_sets",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("golden", Integer, nullable=False, server_default="0"),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
)

# The cases of today. `position` is their order in the set; `expected_documents` and `tags` are JSON. `retrieval_id` is
# the question that a case was made of, in its environment and service, and `topic_id` the topic; "" for none.
cases = Table(
    "cases",
    metadata,
    Column("set_name", String(100), primary_key=True),
    Column("case_id", String(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("question", Text, nullable=False),
    Column("expected_documents", Text, nullable=False),
    Column("reference_answer", Text, nullable=False),
    Column("answerable", Integer, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("service", String(128), nullable=False),
    Column("retrieval_id", Text, nullable=False),
    Column("topic_id", String(64), nullable=False),
    Column("corpus_version", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
    Index("cases_by_topic", "topic_id"),
    Index("cases_by_source", "environment", "retrieval_id"),
)

# What each version of a set changed: the case as it was from then on, as JSON, "" for one that was removed.
case_history = Table(
    "case_history",
    metadata,
    Column("set_name", String(100), primary_key=True),
    Column("set_version", Integer, primary_key=True),
    Column("case_id", String(200), primary_key=True),
    Column("case_version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("audit_id", BigInteger, nullable=False),
)

# What was taken in and must not be taken in twice: a request's idempotency key or a trace's id, by its source.
# `digest` is of the request's body, `answer` the response. Whoever adds keys removes old ones.
ingest_keys = Table(
    "ingest_keys",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("ingest_keys_by_age", "source", "created_ms"),
    sqlite_with_rowid=False,
)

# Leases: who runs what only one of several servers may run. `beat` moves at each renewal; `renewed_ms` is for people.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("renewed_ms", BigInteger, nullable=False),
)

# How often flags were evaluated, counted by the clients. `variant` is "" if callers got the default in their code.
flag_evaluations = Table(
    "flag_evaluations",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("flag", String(256), primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("variant", String(256), primary_key=True),
    Column("n", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    postgresql_with=_OFTEN_UPDATED,
)

# Exposures: who got which variant of an A/B test, and when first. A user with two variants has two rows.
flag_exposures = Table(
    "flag_exposures",
    metadata,
    Column("environment", String(64), primary_key=True),
    Column("flag", String(256), primary_key=True),
    Column("targeting_key", String(256), primary_key=True),
    Column("variant", String(256), primary_key=True),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("service", String(128), nullable=False, server_default="default"),
    sqlite_with_rowid=False,
)

# Events that services reported by tracking. `attributes` is a JSON object.
tracked_events = Table(
    "tracked_events",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("event", String(256), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("targeting_key", String(256), nullable=False),
    Column("value", Double),
    Column("attributes", Text, nullable=False),
    Column("service", String(128), nullable=False, server_default="default"),
    Index("tracked_events_by_time", "environment", "event", "ts_ms"),
)

# Bearer tokens of the HTTP API. Only the SHA-256 of the secret is stored. `scopes` and `services`
# are words separated by spaces; no services means all of the environment.
tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("environment", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("services", Text, nullable=False, server_default=""),
)

# Planned changes of flags; `body` holds the steps as JSON. At most one open schedule per flag.
schedules = Table(
    "schedules",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("flag", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("body", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Index("schedules_by_flag", "environment", "flag"),
    Index(
        "one_open_schedule_a_flag",
        "environment",
        "flag",
        unique=True,
        sqlite_where=text("state IN ('waiting', 'paused')"),
        postgresql_where=text("state IN ('waiting', 'paused')"),
    ),
)

# Sessions that were ended before they expired, each by a hash of its token.
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("session", String(64), primary_key=True),
    Column("ended_ms", BigInteger, nullable=False),
)

# Changes that wait for a second person: `changes` are actions with their states before and after, as JSON, and `digest`
# identifies them. `due_ms` is when an approved one is applied, `entry_id` the audit entry that did so. `assistant` is
# who proposed it over MCP, "" for a person; `origin` says whether the requester is somebody who signed in.
change_requests = Table(
    "change_requests",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("environment", String(64), nullable=False),
    Column("changes", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("editor", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger),
    Column("entry_id", BigInteger),
    Column("assistant", Text, nullable=False, server_default=""),
    Column("origin", String(16), nullable=False, server_default="person"),
    Index("change_requests_by_digest", "digest", "state"),
)

# Tokens that somebody made after signing in: they act for this person.
token_owners = Table(
    "token_owners",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("owner", Text, nullable=False),
)


def add_first_scope(connection: Connection) -> None:
    """Add the scope of rows that name none."""
    first = {"environment": "production", "service": "default", "first_seen_ms": now_ms()}
    connection.execute(scopes.insert().values(first))


def upsert(table: Table, values: str) -> str:
    """Return the SQL that adds `values` (a VALUES list or a SELECT, keys first, in column order) to a rollup."""
    keys = [column.name for column in table.primary_key]
    sums = [column.name for column in table.columns if not column.primary_key]
    return (
        f"INSERT INTO {table.name} ({', '.join([*keys, *sums])}) {values} ON CONFLICT ({', '.join(keys)}) DO UPDATE "
        f"SET {', '.join(f'{name} = {table.name}.{name} + excluded.{name}' for name in sums)}"
    )


def upsert_evaluations(values: str) -> str:
    """Return the SQL that adds `values` (a VALUES list, in column order) to the counts of flag evaluations."""
    return upsert(flag_evaluations, values)
