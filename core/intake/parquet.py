"""Gateway to the rows of Parquet files: values in Python's types, and for a value that has none, the reason."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from quarterdeck.errors import first_line

_BATCH_ROWS = 10_000


def read_parquet(
    path: Path, choose: Callable[[list[str]], Mapping[str, str]], *, skip: int, on_share: Callable[[float], None]
) -> Iterator[Mapping[str, Any] | InvalidInput]:
    """Yield each row after the first `skip` ones, by field; `choose` returns the column of each field.

    Raises InvalidInput for a file that is no Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            sources = choose(file.schema_arrow.names)
            total, seen = max(1, file.metadata.num_rows), 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(sources.values())):
                start = min(batch.num_rows, max(0, skip - seen))
                seen += batch.num_rows
                on_share(seen / total)
                columns = [_read(batch.column(column).slice(start), field) for field, column in sources.items()]
                for values in zip(*columns, strict=True):
                    refused = next((each for each in values if isinstance(each, InvalidInput)), None)
                    yield refused or dict(zip(sources, values, strict=True))
    except pa.ArrowException as error:
        raise InvalidInput("file", f"{path.name} cannot be read as Parquet: {first_line(error)}") from error


def _read(column: Any, field: str) -> list[Any]:
    """Return the values of a column; an InvalidInput for each that no Python value can hold."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, ArithmeticError):  # a time beyond the year 9999, text that is not UTF-8
        values = [_read_one(each, field) for each in column]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [_decode(each, field) if isinstance(each, bytes) else each for each in values]
    return values


def _read_one(value: Any, field: str) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError, ArithmeticError) as error:
        return InvalidInput(field, f"cannot be read: {first_line(error)}")


def _decode(value: bytes, field: str) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return InvalidInput(field, "contains text that is not valid Unicode")
