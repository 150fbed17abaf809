"""Serving an application at an address."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from gradiometer.errors import InputError

_WAITING_CONNECTIONS = 2048

_SECONDS = 30
"""How long an end waits for requests that have come; one of which half has been sent would be waited for for ever."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: Name or address of this machine.
        port: The port; 0 for any that is free, which `getsockname` tells.

    Returns:
        The socket, to be closed by the caller.

    Raises:
        InputError: If nothing can listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_WAITING_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen at {host}, port {port}: {reason}; choose another host or port") from error


def serve(app: FastAPI, at: socket.socket) -> None:
    """Serve an application until the process is asked to end; requests that have come are answered first.

    Args:
        app: The application.
        at: A socket that listens.
    """
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SECONDS)
    with suppress(KeyboardInterrupt):  # is how a server ends
        uvicorn.Server(config).run(sockets=[at])
