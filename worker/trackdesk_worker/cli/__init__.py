"""The command line. Thin: options in, a service called, its result printed.

Exit codes: 0 done, 1 found something wrong, 2 used wrongly. Errors go to stderr as one plain sentence.
"""

import importlib
import sys
from collections.abc import Sequence

import click
import redis

from trackdesk_producer import ProducerError
from trackdesk_worker.config.settings import SettingsInvalid
from trackdesk_worker.local.embedded import EmbeddedUnavailable
from trackdesk_worker.ops.errors import OpsError

COMMANDS = {
    "up": "Run everything on this machine until Ctrl-C (--demo: with a simulated Trackdesk)",
    "worker": "Deliver conversions: one or more worker processes",
    "console": "Serve /metrics of the store, health and the ops console",
    "enqueue": "Enqueue one conversion, from options or JSON on stdin",
    "import": "Enqueue a file of conversions (.jsonl or .csv); safe to repeat",
    "status": "Jobs and money by state, oldest work, blocked tenants",
    "tenants": "Each tenant: backlog, pace, drain time, why it is blocked",
    "show": "Everything about one sale: state, attempts, answers",
    "cancel": "Cancel a sale that waits",
    "dead": "Dead letters: list, show, causes, export, edit",
    "redrive": "Send dead letters again with a new set of attempts",
    "discard": "Discard dead letters: they will never be sent",
    "plan": "Redrive or discard many dead letters: create, start, watch, pause, resume, cancel",
    "log": "The audit log: who did what, how much, why",
    "pause": "Stop deliveries of one tenant",
    "resume": "Resume deliveries of a tenant that is paused, frozen or on hold",
    "restored": "Report that the store may have lost deliveries: after a restore or a failover",
    "audit": "Check that records, indexes and books agree",
    "doctor": "Check the settings and the store for what loses money",
    "simulate": "Run a local Trackdesk for trials and tests",
}
"""Name → one line of help. A command's code is in the module `<name>_command`, unless `_SHARED` names another."""

_SHARED = {
    **dict.fromkeys(("redrive", "discard"), "act_commands"),
    **dict.fromkeys(("show", "cancel"), "job_commands"),
    **dict.fromkeys(("tenants", "pause", "resume", "restored"), "tenant_commands"),
}
"""Modules that hold several commands, each as a function of its name."""


class CommandFailed(Exception):
    """A command ends with exit code 1 and this one sentence on stderr."""


class _Commands(click.Group):
    """Knows all commands by name and imports only the one that runs, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_SHARED.get(cmd_name, f'{cmd_name}_command')}")
        command: click.Command = getattr(module, cmd_name if cmd_name in _SHARED else "command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trackdesk-worker", prog_name="trackdesk")
def cli() -> None:
    """Deliver e-commerce conversions to Trackdesk: at least once, and once at Trackdesk by externalId.

    Settings come from TRACKDESK_* variables; docs/reference/settings.md lists them.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never a traceback for what a user can cause."""
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="trackdesk", standalone_mode=False
        )
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return _fail("stopped", 1)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (SettingsInvalid, ValueError) as error:
        if isinstance(error, ValueError) and not isinstance(error, ProducerError):
            raise
        return _fail(str(error), 2)
    except (CommandFailed, OpsError, ProducerError, EmbeddedUnavailable) as error:
        return _fail(str(error), 1)
    except redis.AuthenticationError:
        return _fail("the store refused the login; check the user and password in TRACKDESK_REDIS_URL", 1)
    except redis.RedisError as error:
        return _fail(f"the store at TRACKDESK_REDIS_URL cannot be used: {error}", 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of ``trackdesk``."""
    sys.exit(run())


def _fail(sentence: str, code: int) -> int:
    click.echo(f"trackdesk: {sentence}", err=True)
    return code
