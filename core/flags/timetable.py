"""Gateway to the schedules of flags. `schedule.py` decides when a step is due."""

import json
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from core.audit.settings import save_versioned
from core.errors import Conflict, NotFound
from core.flags.schedule import OPEN, Schedule, ScheduleState, ScheduleStep
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.schema import schedules
from quarterdeck.store import Store

_COLUMNS = ("schedule_id", "environment", "flag", "state", "version")


def list_schedules(
    store: Store,
    *,
    environment: str | None = None,
    flag: str | None = None,
    states: Iterable[ScheduleState] = tuple(ScheduleState),
    limit: int = 500,
) -> tuple[Schedule, ...]:
    """Return schedules, newest first."""
    query = select(schedules).where(schedules.c.state.in_([str(state) for state in states]))
    for column, wanted in ((schedules.c.environment, environment), (schedules.c.flag, flag)):
        if wanted is not None:
            query = query.where(column == wanted)
    with store.read() as connection:
        rows = connection.execute(query.order_by(schedules.c.id.desc()).limit(limit)).mappings()
        return tuple(_schedule(row) for row in rows)


def get_schedule(store: Store, schedule_id: int) -> Schedule:
    """Return one schedule. Raises NotFound."""
    with store.read() as connection:
        row = connection.execute(select(schedules).where(schedules.c.id == schedule_id)).mappings().first()
    if row is None:
        raise NotFound(f"schedule: there is no schedule {schedule_id}")
    return _schedule(row)


def add_schedule(connection: Connection, schedule: Schedule) -> Schedule:
    """Store a new schedule; return it with its id. Raises Conflict when the flag has an open one."""
    same = (schedules.c.environment == schedule.environment, schedules.c.flag == schedule.flag)
    open_id = connection.scalar(select(schedules.c.id).where(*same, schedules.c.state.in_([str(s) for s in OPEN])))
    if open_id is not None:
        raise Conflict(f"flag {schedule.flag!r} has the open schedule {open_id}; cancel it first")
    values = {"environment": schedule.environment, "flag": schedule.flag, "version": 1, **_values(schedule)}
    made = connection.execute(insert(schedules).values(values)).inserted_primary_key
    return replace(schedule, schedule_id=int(made[0]), version=1)  # type: ignore[index]


def save_schedule(connection: Connection, schedule: Schedule) -> None:
    """Store the schedule as the version after the one that was read. Raises Conflict."""
    save_versioned(
        connection, schedules, {"id": schedule.schedule_id}, _values(schedule), expected_version=schedule.version
    )


def _values(schedule: Schedule) -> dict[str, Any]:
    body = {name: value for name, value in asdict(schedule).items() if name not in _COLUMNS}
    body["due"] = to_ms(schedule.due) if schedule.due else None
    return {"state": str(schedule.state), "body": json.dumps(body, ensure_ascii=False)}


def _schedule(row: Any) -> Schedule:
    body = json.loads(row["body"])
    known = {field.name for field in fields(Schedule)}
    read = {name: value for name, value in body.items() if name in known}
    read["steps"] = tuple(ScheduleStep(**step) for step in body["steps"])
    read["due"] = from_ms(body["due"]) if body["due"] is not None else None
    return Schedule(
        schedule_id=row["id"], environment=row["environment"], flag=row["flag"], state=ScheduleState(row["state"]),
        version=row["version"], **read,
    )  # fmt: skip
