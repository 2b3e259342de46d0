"""Writes docs/reference/commands.md from the commands themselves: `.venv/bin/python -m docs.command_reference`."""

from collections.abc import Iterator
from pathlib import Path

import click

from app.cli import main

TARGET = Path(__file__).parent / "reference" / "commands.md"
SHARED = ("--json", "--database", "--environment", "--help")
INTRODUCTION = """# Commands and options

This page is generated from the commands' own help. [Command line](../commands.md) shows them in use.

Every command takes these options, which are not repeated below:

| option | default | what |
| --- | --- | --- |
| `--json` | | Print JSON instead of text. |
| `--database URL` | `QUARTERDECK_DATABASE_URL` | The shared store. |
| `--environment NAME` | `QUARTERDECK_ENVIRONMENT` | The environment to work in. |
| `--help` | | Show the help, with an example. |
"""


def list_commands(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    """Return every command with its full name, such as `flags schedule add`."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from list_commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


def describe_commands() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(_describe(name, command) for name, command in list_commands(main))])


def _describe(name: str, command: click.Command) -> str:
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    context = click.Context(command, info_name=f"quarterdeck {name}")
    usage = " ".join([f"quarterdeck {name}", *command.collect_usage_pieces(context)])
    rows = [
        _describe_option(option, context)
        for option in command.params
        if isinstance(option, click.Option) and option.opts[0] not in SHARED
    ]
    table = ["| option | default | what |", "| --- | --- | --- |", *rows, ""] if rows else []
    told = [line for each in paragraphs for line in (_as_code(each), "")]
    return "\n".join([f"## {name}", "", f"`{usage}`", "", *told, *table])


def _as_code(paragraph: str) -> str:
    """Set the example of a help text as code."""
    before, example, command = paragraph.partition("Example: ")
    return f"{before}{example}`{command}`" if example else paragraph


def _describe_option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    default = option.get_default(context, call=False)
    known = isinstance(default, str | int | float) and default != "" and not option.is_flag
    told = "required" if option.required else f"`{default}`" if known else ""
    texts = [option.help or "", "May be repeated." if option.multiple else ""]
    if isinstance(option.envvar, str):
        texts.append(f"Also read from `{option.envvar}`.")
    text = " ".join(filter(None, texts)).replace("|", "\\|")
    return f"| {names}{value.replace('|', chr(92) + '|')} | {told} | {text} |"


if __name__ == "__main__":
    TARGET.write_text(describe_commands(), encoding="utf-8")
