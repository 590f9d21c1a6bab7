"""Connections that begin something and do not go on with it are closed, and none outlives the server."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # for the head of a request to be whole
FAREWELL_SECONDS = 0.3  # for answers under way, when the server ends


class PageProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, which by itself waits for ever for the rest of a request."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a half request does not get more time for a few more."""
        super().data_received(data)
        self._watch()

    def shutdown(self) -> None:
        """End the connection, at once or after a moment."""
        super().shutdown()
        self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)

    def _watch(self) -> None:
        # A request that is answered already may still be coming in.
        waiting = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
        if not waiting and self._late is not None:
            self._late.cancel()
            self._late = None
        if waiting and self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)
