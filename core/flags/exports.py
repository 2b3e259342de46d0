"""Rule: recognizes whose export a file of flags is, and reads it. A line in IMPORTERS adds another tool."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from core.errors import InvalidInput
from core.flags.configcat import CONFIGCAT
from core.flags.conversion import Converted
from core.flags.flagd_files import read_flagd
from core.flags.flagsmith import FLAGSMITH
from core.flags.flipt import FLIPT
from core.flags.gofeatureflag import GO_FEATURE_FLAG
from core.flags.growthbook import GROWTHBOOK
from core.flags.launchdarkly import LAUNCHDARKLY
from core.flags.posthog import POSTHOG
from core.flags.unleash import UNLEASH
from quarterdeck.documents import parse_json

# Asked in this order; the first that recognizes a file reads it.
IMPORTERS = (
    UNLEASH,
    GROWTHBOOK,
    LAUNCHDARKLY,
    POSTHOG,
    FLIPT,
    FLAGSMITH,
    CONFIGCAT,
    GO_FEATURE_FLAG,
)
# What a file of a tool that is not read holds at its top.
_OTHERS = {
    "Split": ("splits", "ff"),
    "Statsig": ("feature_gates", "dynamic_configs"),
    "Optimizely": ("featureFlags", "experiments"),
    "Firebase Remote Config": ("parameters", "parameterGroups"),
    "DevCycle": ("featureVariationMap", "variableVariationMap"),
}


def read_export(text: str | bytes, environment: str) -> tuple[dict[str, Any], Converted]:
    """Return the flagd document in an export, and what became of each flag on the way.

    If the export has several environments, the one with this name is read. Raises InvalidInput.
    """
    export = _parse(text)
    for importer in IMPORTERS:
        if importer.recognizes(export):
            converted = importer.convert(export, environment)
            return {"flags": converted.flags}, converted
    known = _name_other(export)
    if not known and isinstance(export, Mapping) and "flags" in export:
        return read_flagd(export)
    formats = ", ".join(importer.name for importer in IMPORTERS)
    said = f"this looks like a file of {known}, which is not read; " if known else ""
    raise InvalidInput("definitions", f"{said}give a flagd document with `flags`, or an export of {formats}")


def _name_other(export: Any) -> str:
    """The tool that a file looks to be of, among those that are not read; empty if it looks like none."""
    if not isinstance(export, Mapping):
        return ""
    flags = export.get("flags")
    if isinstance(flags, Mapping) and any(
        isinstance(each, Mapping) and "allocations" in each for each in flags.values()
    ):
        return "Eppo"
    return next((name for name, parts in _OTHERS.items() if set(parts) & set(export)), "")


def _parse(text: str | bytes) -> Any:
    """What a file holds, as JSON or YAML. Raises InvalidInput."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidInput("definitions", f"not UTF-8: {error}") from None
    if re.match(r"\s*[\[{]", decoded):
        return _parse_stream(decoded)
    try:
        documents = [each for each in yaml.load_all(decoded, Loader=_Loader) if each is not None]
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput("definitions", f"neither JSON nor YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InvalidInput("definitions", "nested too deeply") from None
    found = documents[0] if len(documents) == 1 else documents
    if not isinstance(found, Mapping | list):
        raise InvalidInput("definitions", "not JSON, and no YAML of flags")
    return found


def _parse_stream(text: str) -> Any:
    """A JSON document, or several, one a line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line[0] == "{" and line.rstrip()[-1] == "}" for line in lines):
        return [parse_json(line) for line in lines]
    return parse_json(text)


class _Loader(yaml.SafeLoader):
    """YAML without aliases, of which a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases (*name); write out what they stand for")
        return super().compose_node(parent, index)
