"""``samplecnn serve``: a page on this computer that shows the tags of a song while it plays."""

import argparse
import signal
import socket
import threading
import webbrowser
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from samplecnn.cli.common import (
    default_model,
    load_tagger,
    model_name,
    named_run,
    own_class_options,
    positive,
    whole,
)
from samplecnn.errors import UserError, require_libraries
from samplecnn.text import printable, unique

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from uvicorn import Config

PORT = 8737
CONNECTIONS = 64  # at once; one page needs a handful


def add_commands(commands: Any) -> None:
    """Add ``samplecnn serve``."""
    serve = commands.add_parser(
        "serve",
        parents=[own_class_options()],
        help="a local page: play a song, see its tags move with it, models side by side",
    )
    serve.add_argument(
        "models",
        nargs="*",
        type=named_run,
        metavar="MODEL",
        help="run folders, checkpoints or bundles "
        "(default: that of `samplecnn use`, or the newest finished run)",
    )
    serve.add_argument(
        "--port",
        type=partial(whole, most=65535),
        default=PORT,
        help=f"of 127.0.0.1; 0 is any that is free (default: {PORT})",
    )
    serve.add_argument(
        "--limit", type=positive, default=200, metavar="MB", help="largest file taken (default: 200)"
    )
    serve.add_argument(
        "--minutes", type=positive, default=120, metavar="N", help="of a song that are heard (default: 120)"
    )
    serve.add_argument("--no-browser", action="store_true", help="only print the address")
    serve.set_defaults(command=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or until its terminal is closed."""
    require_libraries("serve", "starlette", "uvicorn")
    import uvicorn

    from samplecnn.inference.page.app import HOST, create_app

    paths = options.models or [default_model()]
    taggers = [load_tagger(path, options) for path in paths]
    kinds = [tagger.description.words[0] for tagger in taggers]
    models = dict(zip(unique(map(model_name, paths, kinds)), taggers, strict=True))
    app = create_app(models, max_bytes=options.limit * 1_000_000, max_seconds=options.minutes * 60)
    with listen(HOST, options.port) as listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        print(f"{printable(', '.join(models))}: {address} (Ctrl-C ends it)", flush=True)
        if not options.no_browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
            server = uvicorn.Server(configure(app))
            if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
                signal.signal(signal.SIGHUP, server.handle_exit)  # so that no song stays behind
            server.run(sockets=[listening])
    return 0


def configure(app: "Starlette") -> "Config":
    """Return uvicorn's settings: nothing that the page does not need."""
    from uvicorn import Config

    from samplecnn.inference.page.connections import PageProtocol

    return Config(
        app,
        http=PageProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,  # seconds; computations end at their next batch
    )


def listen(host: str, number: int) -> socket.socket:
    """Return a socket that listens; UserError for a port that is taken."""
    try:
        return socket.create_server((host, number))
    except OSError as error:
        raise UserError(
            f"port {number} of {host}: {error.strerror}; choose another with --port, or --port 0"
        ) from error
