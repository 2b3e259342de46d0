"""Rule: puts gate reports into words: plain text for a terminal, Markdown for a comment, JUnit XML for CI.

Questions and answers are shown as quoted text only: nothing in them can become a link, a mention or markup.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

from core.prompts.gates import CaseFailure, GateCheck, GateReport
from core.wording.counts import count_of

_SHOWN_FAILURES = 12
_SHOWN_LETTERS = 400
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_text(reports: Sequence[GateReport]) -> str:
    """Return the text for a terminal: a line per check, with its failing cases below."""
    lines: list[str] = []
    for report in reports:
        lines.append(f"{report.gate} {report.subject}: {'passed' if report.passed else 'FAILED'}")
        for check in report.checks:
            lines.append(f"  {'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}")
            lines += [f"       {line}" for failure in check.failures for line in _lines(failure)]
        lines += [f"  note {note}" for note in report.notes]
    return "\n".join(lines)


def render_markdown(reports: Sequence[GateReport]) -> str:
    """Return the Markdown for a pull request. Each failing case is listed once, with all its reasons."""
    parts = []
    for report in reports:
        parts.append(f"### {'✅' if report.passed else '❌'} {report.gate}: {_code(report.subject)}\n")
        parts.append("| Check | | Figures |\n| --- | --- | --- |")
        parts += [f"| {c.name} | {'ok' if c.passed else '**failed**'} | {_cell(c.detail)} |" for c in report.checks]
        parts.append("")
        parts += [f"> {_code(note)}\n" for note in report.notes]
        parts += _failing_cases(report)
    return "\n".join(parts) + "\n"


def render_junit(reports: Sequence[GateReport]) -> str:
    """Return a JUnit XML document: a suite per report, a test case per check."""
    suites = ElementTree.Element("testsuites")
    for report in reports:
        failed = sum(not check.passed for check in report.checks)
        name = _xml(f"{report.gate} {report.subject}")
        counts = {"tests": str(len(report.checks)), "failures": str(failed), "errors": "0", "skipped": "0"}
        suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts})
        for check in report.checks:
            entry = ElementTree.SubElement(suite, "testcase", {"classname": name, "name": _xml(check.name)})
            if not check.passed:
                failure = ElementTree.SubElement(entry, "failure", {"message": _xml(check.detail)})
                failure.text = _xml("\n".join(line for each in check.failures for line in _lines(each)))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _failing_cases(report: GateReport) -> list[str]:
    found = _merge([check for check in report.checks if not check.passed])
    parts = []
    for failure in found[:_SHOWN_FAILURES]:
        parts.append(f"- **{_code(failure.case_id)}** {_code(failure.question)}")
        parts.append(f"  - expected: {_code(failure.expected)}")
        parts.append(f"  - actual: {_code(failure.actual)}")
        parts += [f"  - why: {_code(reason)}" for reason in failure.reasons]
    if len(found) > _SHOWN_FAILURES:
        parts.append(f"- and {count_of(len(found) - _SHOWN_FAILURES, 'more case')}; the JUnit report lists all")
    return [*parts, ""] if parts else []


def _merge(checks: Sequence[GateCheck]) -> list[CaseFailure]:
    """Return each failing case once, with the reasons of all checks."""
    found: dict[str, CaseFailure] = {}
    for failure in (failure for check in checks for failure in check.failures):
        known = found.get(failure.case_id)
        reasons = tuple(dict.fromkeys((*(known.reasons if known else ()), *failure.reasons)))
        found[failure.case_id] = replace(failure, reasons=reasons)
    return list(found.values())


def _lines(failure: CaseFailure) -> list[str]:
    return [
        f"{failure.case_id}: {_short(failure.question)}",
        f"  expected: {_short(failure.expected)}",
        f"  actual:   {_short(failure.actual) or '(nothing)'}",
        *(f"  why:      {_short(reason)}" for reason in failure.reasons),
    ]


def _short(text: str) -> str:
    """Return a text as one line of printable characters, cut off if long."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _SHOWN_LETTERS else f"{line[:_SHOWN_LETTERS]}…"


def _code(text: str) -> str:
    """Return a text as a Markdown code span, fenced by more backticks than it contains."""
    line = _short(text) or "(nothing)"
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"


def _cell(text: str) -> str:
    return _code(text).replace("|", "\\|")


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
