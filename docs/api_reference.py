"""Writes docs/reference/api.md from the OpenAPI document of /v1: `.venv/bin/python -m docs.api_reference`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.http.api import get_v1

TARGET = Path(__file__).parent / "reference" / "api.md"
INTRODUCTION = """# API of the pages

This page is generated from the OpenAPI 3.1 document, which every server has at `/v1/openapi.json`.
[The pages over HTTP](../api.md) explains scopes, pages of lists, ETags, idempotency keys and problems, which all of
these routes share; [HTTP API](http.md) lists the routes that take rows and evaluate flags.
"""
_PLACES = {"path": "in the path", "query": "in the address", "header": "header"}
_TITLES = {
    "verdicts": "Verdicts, causes and changes",
    "questions": "Questions",
    "topics": "Topics, backlog and documents",
    "corpus": "Corpus and indexes",
    "prompts": "Runs and prompts",
    "flags": "Flags and schedules",
    "rollouts": "Canaries and experiments",
    "metrics": "Metrics",
    "alerts": "Alerts",
    "audit": "Audit",
}


def describe_api() -> str:
    """Return the page."""
    document = get_v1().openapi()
    parts = [INTRODUCTION]
    for tag, title in _TITLES.items():
        parts.append(f"## {title}\n")
        parts += [
            _describe_operation(method, path, said)
            for path, operations in document["paths"].items()
            for method, said in operations.items()
            if tag in said["tags"]
        ]
    parts.append("## Objects\n")
    schemas = sorted(document["components"]["schemas"].items())
    parts += [_describe_schema(name, schema) for name, schema in schemas if not name.startswith("Page_")]
    return "\n".join(parts)


def _describe_operation(method: str, path: str, said: Mapping[str, Any]) -> str:
    lines = [f"### `{method.upper()} {path}`", "", " ".join(_escape(said["description"]).split()), ""]
    body = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    rows = [
        f"| `{each['name']}` | {_PLACES[each['in']]} | {_say_type(each['schema'])} | {_say_default(each)} | "
        f"{_escape(each.get('description') or each['schema'].get('description', ''))} |"
        for each in said.get("parameters", ())
    ]
    if rows:
        lines += ["| parameter | where | type | default | what |", "| --- | --- | --- | --- | --- |", *rows, ""]
    if body:
        lines += [f"Body: {_say_type(body)}.", ""]
    answer = said["responses"]["200"]["content"]["application/json"]["schema"]
    lines += [f"Answer: {_say_type(answer)}.", ""]
    return "\n".join(lines)


def _describe_schema(name: str, schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_say_type(said)} | {'yes' if field in required else ''} | {_say_field(said)} |"
        for field, said in schema.get("properties", {}).items()
    ]
    table = ["| field | type | required | what |", "| --- | --- | --- | --- |", *rows, ""] if rows else []
    values = ", ".join(f"`{value}`" for value in schema.get("enum", ()))
    said = [" ".join(_escape(schema["description"]).split()), ""] if schema.get("description") else []
    return "\n".join([f"### {name}", "", *said, *([f"One of {values}.", ""] if values else []), *table])


def _say_field(said: Mapping[str, Any]) -> str:
    marked = "Untrusted text." if said.get("x-untrusted") else ""
    return " ".join(filter(None, (_escape(said.get("description", "")), marked)))


def _say_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name.startswith("Page_"):
            item = name.removeprefix("Page_").removesuffix("_")
            return f"a page (`items`, `next`) of {'texts' if item == 'str' else f'[{item}](#{item.lower()})'}"
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_say_type(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_say_type(schema['items'])}" if "items" in schema else "list"
    named = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    kind = {"date-time": "time", "date": "day"}.get(schema.get("format", ""), schema.get("type", "anything"))
    return f"{named.get(kind, kind)}{_say_bounds(schema)}"


def _say_bounds(schema: Mapping[str, Any]) -> str:
    return "".join(_list_bounds(schema))


def _list_bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f", {low:g} to {high:,.0f}"
    elif low is not None:
        yield f", {low:g} or more"
    if "exclusiveMinimum" in schema:
        yield f", above {schema['exclusiveMinimum']:g}"
    if "maxLength" in schema:
        yield f", at most {schema['maxLength']:,} characters"


def _say_default(parameter: Mapping[str, Any]) -> str:
    if parameter.get("required"):
        return "required"
    default = parameter["schema"].get("default")
    return f"`{default}`" if default not in (None, [], "") else ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(describe_api(), encoding="utf-8")
