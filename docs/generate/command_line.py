"""Every command with its help, as `--help` prints it."""

from collections.abc import Iterator

import click

from trackdesk_worker.cli import COMMANDS, cli

WIDTH = 100

INTRODUCTION = """# Command line

<!-- Generated from the commands' own help by `make reference`; do not edit. -->

Every command reads its [settings](settings.md) from the environment. Results go to stdout, errors to stderr as one
plain sentence.

| exit code | means |
|--:|---|
| 0 | done |
| 1 | the command found something wrong, or could not finish |
| 2 | used wrongly: an unknown option, a bad value, a wrong setting |

`--json` prints the result for programs. Its fields are stable within a major version ([Versions](../versions.md)).

"""


def render() -> str:
    """Return the page."""
    parent = click.Context(cli, info_name="trackdesk", **cli.context_settings)
    parts = [INTRODUCTION, "| command | does |\n|---|---|\n"]
    parts += [f"| [`trackdesk {name}`](#trackdesk-{name}) | {line} |\n" for name, line in COMMANDS.items()]
    for name in COMMANDS:
        for path, text in _helps(cli.get_command(parent, name), parent, name):
            level = "#" * (path.count(" ") + 1)
            parts.append(f"\n{level} {path}\n\n```text\n{text}\n```\n")
    return "".join(parts)


def _helps(command: click.Command | None, parent: click.Context, name: str) -> Iterator[tuple[str, str]]:
    if command is None:
        raise LookupError(f"{name} is listed and has no command")
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    yield context.command_path, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from _helps(command.get_command(context, child), context, child)
