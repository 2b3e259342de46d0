"""Gateway to the ends of a column of a log in SQL."""

from sqlalchemy import ColumnElement, Connection, func, select


def find_ends(
    connection: Connection, column: ColumnElement[int], *conditions: ColumnElement[bool]
) -> tuple[int, int] | None:
    """Return the least and the largest value of a column among the rows that meet all conditions; None without a row.

    Each end is a query of its own: SQLite reads every row for the two of them together, and one for each alone.
    """
    least, largest = (select(end(column)).where(*conditions).scalar_subquery() for end in (func.min, func.max))
    first, last = connection.execute(select(least, largest)).one()
    return None if last is None else (first, last)
