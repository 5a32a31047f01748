"""``nas``: the command line. Imports nothing heavy until a command runs, so that ``nas --help`` answers at once.

Exit codes: 0 done · 1 the search or the check did not succeed · 2 wrong usage · 3 no server answers ·
4 the server refused · 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from nas_service import __version__
from nas_service.cli import benchmark, catalogue, searches, server

EXIT_FAILED, EXIT_UNREACHABLE, EXIT_REFUSED = 1, 3, 4


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nas")
@click.option("--url", envvar="NAS_URL", help="The server; default http://127.0.0.1:8000.")
@click.option("--token", envvar="NAS_TOKEN", help="Access token; default: NAS_TOKEN_FILE, or nas-data/admin.token.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@click.pass_context
def nas(context: click.Context, url: str | None, token: str | None, output: str) -> None:
    """Neural architecture search: post a search, watch it, take the winner home."""
    context.obj = {"url": url, "token": token, "json": output == "json"}


for command in (*server.COMMANDS, *searches.COMMANDS, *catalogue.COMMANDS, *benchmark.COMMANDS):
    nas.add_command(command)


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    try:
        nas.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        click.secho(f"nas: {error}", fg="red", err=True)
        for item in getattr(error, "errors", [])[1:]:
            click.echo(f"     {item.get('detail')}", err=True)
        sys.exit(code)


def _code(error: Exception) -> int | None:
    """Exit code of an error that is expected; None for a bug."""
    kinds = {type_.__name__ for type_ in type(error).__mro__}
    if "Unreachable" in kinds:
        return EXIT_UNREACHABLE
    if "ApiError" in kinds:
        return EXIT_REFUSED
    return EXIT_FAILED if kinds & {"NasError", "TimeoutError", "ValidationError"} else None
