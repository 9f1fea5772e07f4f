"""`edgellm serve`: an OpenAI-compatible server over a bundle."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgellm.cli.options import (
    environment_option,
    note_memory,
    open_engine,
    served_engine_options,
    split_options,
)
from edgellm.cli.output import note, print_json
from edgellm.server.settings import DEFAULT_MAX_BODY, DEFAULT_PORT, ServerSettings


@click.command("serve")
@click.argument("bundle", type=click.Path(path_type=Path))
@environment_option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 = all networks.")
@environment_option(
    "--port", default=DEFAULT_PORT, type=click.IntRange(0, 65535), help="Port; 0 = any free one."
)
@served_engine_options
@environment_option(
    "--max-queue", default=256, type=click.IntRange(1), help="Requests that may wait; more get a 429."
)
@environment_option(
    "--no-prefix-cache",
    is_flag=True,
    help="Compute every prompt from its start, also what another began with (step mode).",
)
@environment_option(
    "--api-key",
    metavar="KEY",
    help="Ask clients for this key. Other users of this machine can see command lines: prefer the variable.",
)
@environment_option(
    "--model-name",
    multiple=True,
    metavar="NAME",
    help="Name the model answers to; repeatable, the first is shown.  [default: the bundle's]",
)
@environment_option(
    "--cors-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Web origin whose pages may call this server; repeatable; * = all.  [default: none]",
)
@environment_option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="Host name that clients may use beside this machine's; repeatable.",
)
@environment_option(
    "--max-body", default=DEFAULT_MAX_BODY, type=click.IntRange(1024), help="Largest request body in bytes."
)
@environment_option(
    "--body-timeout",
    default=30,
    type=click.FloatRange(0, min_open=True),
    help="Seconds in which a request's body must arrive.",
)
@environment_option(
    "--grace",
    default=20,
    type=click.FloatRange(0),
    help="Seconds for running answers to finish when told to stop.",
)
@environment_option("--access-log", is_flag=True, help="One line on stderr for each request.")
@environment_option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def serve(
    bundle: Path,
    host: str,
    port: int,
    max_queue: int,
    no_prefix_cache: bool,
    api_key: str | None,
    model_name: tuple[str, ...],
    cors_origin: tuple[str, ...],
    allowed_host: tuple[str, ...],
    max_body: int,
    body_timeout: float,
    grace: float,
    access_log: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Serve BUNDLE over HTTP: the OpenAI API under /v1, and a chat page at /.

    One line is printed on stdout once requests are taken. Ctrl-C or SIGTERM lets running answers finish
    first. Every option can be set as EDGELLM_NAME; lists are separated by spaces there.
    """
    from edgellm.server.run import Ready, bind, require_dependencies, run

    require_dependencies()
    if api_key is None:
        # click takes an empty variable for an absent one; here that would open the server by mistake.
        api_key = os.environ.get("EDGELLM_API_KEY")
    settings = ServerSettings(
        host=host,
        port=port,
        api_key=api_key,
        cors_origins=cors_origin,
        allowed_hosts=allowed_host,
        model_names=model_name,
        max_body_bytes=max_body,
        body_timeout_s=body_timeout,
        grace_s=grace,
        access_log=access_log,
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if click.get_current_context().find_root().params.get("debug"):
        logging.getLogger("edgellm").setLevel(logging.DEBUG)
    if access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    if not settings.loopback and settings.api_key is None:
        note(
            f"warning: {host} can be reached from other machines and no API key is set; anyone there can "
            "use this server. Set EDGELLM_API_KEY, or leave --host at 127.0.0.1."
        )

    # The address first: a port that is taken should not cost the time to load a model.
    sock = bind(settings)

    engine_settings, _ = split_options(options)
    engine_settings |= {"max_queue": max_queue, "prefix_cache": not no_prefix_cache}
    if not as_json:
        engine_settings["on_memory"] = note_memory
    with open_engine(bundle, engine_settings) as engine:

        def announce(ready: Ready) -> None:
            if as_json:
                said = {
                    "url": ready.url,
                    "host": ready.host,
                    "port": ready.port,
                    "pid": os.getpid(),
                    "model": ready.models[0],
                    "models": list(ready.models),
                    "mode": engine.mode,
                    "context": engine.context,
                    "memory": engine.memory and asdict(engine.memory),
                }
                print_json(said)
            else:
                click.echo(
                    f"{ready.models[0]} at {ready.url} (chat page; API under {ready.url}/v1). Ctrl-C stops."
                )

        run(engine, settings, sock, announce)
