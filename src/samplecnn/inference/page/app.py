"""The page's server: a Starlette application, bound to this computer alone.

Nothing a browser sends is trusted: other host names (DNS rebinding) and other origins are refused, sounds
go by random names, and the size of an upload is limited while it comes in.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samplecnn.inference.page.export import PAGE
from samplecnn.inference.page.sounds import Sound, SoundError, Sounds
from samplecnn.inference.page.tagging import has_excitations, lines
from samplecnn.inference.tagger import Tagger

HOST = "127.0.0.1"
UPLOADS = 4  # at once, each as large as a file may be; others wait
STALL_SECONDS = 20.0  # without a byte
UPLOAD_SECONDS = 600.0  # for the whole of a file, from this computer
FILES = {"/" if name == "index.html" else f"/{name}": file for name, file in PAGE.items()}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class OwnPageOnly:
    """Refuses requests that another site's page makes, and adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers.get('host')}":
            refusal = _error(403, "Only this server's own page may ask.")
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def create_app(models: Mapping[str, Tagger], *, max_bytes: int, max_seconds: float) -> Starlette:
    """Return the application for models by the names that the page shows.

    Uploads of more than ``max_bytes`` are refused; longer sounds are cut at ``max_seconds``. Its files are in
    a temporary folder that it deletes when it ends.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        rates = {tagger.sample_rate for tagger in models.values()}
        with tempfile.TemporaryDirectory(prefix="samplecnn-") as folder:
            app.state.sounds = Sounds(Path(folder), rates, max_bytes, max_seconds)
            app.state.network = asyncio.Lock()
            app.state.uploads = asyncio.Semaphore(UPLOADS)
            try:
                yield
            finally:
                app.state.sounds.close()

    page = [Route(path, partial(_file, file)) for path, file in FILES.items()]
    app = Starlette(
        routes=[
            *page,
            Route("/api/models", _models),
            Route("/api/sounds", _add_sound, methods=["POST"]),
            Route("/api/sounds/{id}/tags", _tags),
            Route("/api/sounds/{id}/audio", _audio),
        ],
        middleware=[
            Middleware(OwnPageOnly),
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
        ],
        exception_handlers={SoundError: _refuse},
        lifespan=lifespan,
    )
    app.state.models = models
    app.state.summary = {
        "models": [describe(name, tagger) for name, tagger in models.items()],
        "max_bytes": max_bytes,
        "max_minutes": max_seconds / 60,
    }
    return app


def describe(name: str, tagger: Tagger) -> dict[str, Any]:
    """Return what the page says of a model."""
    network = tagger.description
    about = [*network.words, f"{len(tagger.tags)} tags of {network.data}"]
    return {
        "name": name,
        "about": ", ".join(about),
        "tags": len(tagger.tags),
        "excitations": has_excitations(tagger),
    }


async def _file(path: Path, _request: Request) -> Response:
    return FileResponse(path)


async def _models(request: Request) -> Response:
    return JSONResponse(request.app.state.summary)


async def _add_sound(request: Request) -> Response:
    state = request.app.state
    sounds: Sounds = state.sounds
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        sounds.check_size(int(announced))
    try:
        async with state.uploads:
            sound = await sounds.add(_body(request), request.is_disconnected)
    except ClientDisconnect:
        return Response(status_code=400)  # to nobody
    shown = {key: getattr(sound, key) for key in ("id", "seconds", "cut", "peaks")}
    return JSONResponse(shown, 201)


async def _body(request: Request) -> AsyncIterator[bytes]:
    """Yield an upload as it comes; SoundError if it stalls, or comes drop by drop."""
    chunks = request.stream()
    end = asyncio.get_running_loop().time() + UPLOAD_SECONDS
    while True:
        patience = min(STALL_SECONDS, end - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise SoundError(408, "This upload does not go on: choose the file again.") from error
        if chunk is None:
            return
        yield chunk


async def _tags(request: Request) -> Response:
    state = request.app.state
    sound: Sound = state.sounds[request.path_params["id"]]
    models: Mapping[str, Tagger] = state.models
    name = request.query_params.get("model", "")
    if name not in models:
        return _error(404, f"There is no model {name!r}; there are {', '.join(models)}.")
    samples = sound.samples(models[name].sample_rate)
    content = lines(models[name], samples, state.network)
    return StreamingResponse(content, media_type="application/x-ndjson")


async def _audio(request: Request) -> Response:
    sounds: Sounds = request.app.state.sounds
    path = await run_in_threadpool(sounds.wav, sounds[request.path_params["id"]])
    return FileResponse(path, media_type="audio/wav")


async def _refuse(_request: Request, error: Exception) -> Response:
    return _error(error.status if isinstance(error, SoundError) else 500, str(error))


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
