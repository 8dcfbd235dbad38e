"""The HTTP server of the page, on loopback. Knows aiohttp."""

from __future__ import annotations

import contextlib
import importlib.resources
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from provider.commands.dev.ui.lattice_view import LatticeView
from provider.commands.errors import CommandError, DevError
from provider.plain_text import json_line

_ADDRESS = "127.0.0.1"

_LARGEST_FORM_BYTES = 4 * 2**20
"""Of a request: more than the largest value that fits into a message, with its escapes."""

_HEADERS = {
    # The page loads its own files only, and no other page may frame it.
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}

_END_SECONDS = 0.2
"""Time for open answers when the lattice stops. A page that listens for calls would never end by itself."""


class _Form(msgspec.Struct):
    """A call that a person sends from the page."""

    words: list[str]
    expires: int | None = None


@contextlib.asynccontextmanager
async def serving(view: LatticeView, port: int) -> AsyncIterator[str]:
    """Serve the page until the context ends; yield its URL.

    Args:
        view: Content of the page.
        port: Port to listen on; 0 picks a free one.

    Raises:
        DevError: The port is in use.
    """
    app = web.Application(middlewares=[_checked], client_max_size=_LARGEST_FORM_BYTES)
    for path, (name, content_type) in _FILES.items():
        app.router.add_get(path, _file(name, content_type))

    async def state(request: web.Request) -> web.Response:
        return _answer(await view.state())

    async def keys(request: web.Request) -> web.Response:
        return _answer(await view.keys(request.query.get("prefix", ""), request.query.get("cursor", "")))

    async def call(request: web.Request) -> web.Response:
        try:
            form = msgspec.json.decode(await request.read(), type=_Form)
        except msgspec.DecodeError as error:
            return _answer({"error": f"the form is not valid: {error}"}, status=400)
        return _answer(await view.call(form.words, form.expires))

    async def calls(request: web.Request) -> web.StreamResponse:
        return await _stream(request, view.calls())

    async def no_icon(request: web.Request) -> web.Response:
        return web.Response(status=204)

    app.router.add_get("/favicon.ico", no_icon)
    app.router.add_get("/state", state)
    app.router.add_get("/keys", keys)
    app.router.add_get("/calls", calls)
    app.router.add_post("/call", call)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_END_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _ADDRESS, port)
        try:
            await site.start()
        except OSError as error:
            raise DevError(f"the page cannot be served on port {port}: {error.strerror or error}") from None
        _, bound = runner.addresses[0]
        yield f"http://{_ADDRESS}:{bound}/"
    finally:
        await runner.cleanup()


@web.middleware
async def _checked(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what another site's page may send through this person's browser.

    Such a request names another host (DNS rebinding), or has the origin of the other site.
    """
    own = {f"{name}:{request.transport.get_extra_info('sockname')[1]}" for name in (_ADDRESS, "localhost")}  # type: ignore[union-attr]
    origin = request.headers.get("Origin", "")
    if request.host not in own or (origin and origin not in {f"http://{host}" for host in own}):
        raise web.HTTPForbidden(text="this page answers only to itself")
    if request.method == "POST" and request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected application/json")
    try:
        response = await handler(request)
    except CommandError as error:
        response = _answer({"error": str(error)}, status=502)
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response


def _file(name: str, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return answer


def _answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=json_line(value), content_type="application/json", status=status)


async def _stream(request: web.Request, objects: AsyncIterator[Any]) -> web.StreamResponse:
    """Send objects as server-sent events until the page is closed."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_HEADERS})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # the page was closed
        async for value in objects:
            await response.write(f"data: {json_line(value)}\n\n".encode())
    return response
