"""A detector behind HTTP: images go in, verdicts come out, for programs, monitoring and people (extra `serve`)."""

from __future__ import annotations

from gradiometer.errors import DependencyError

try:
    from gradiometer.service.application import Limits, make_app
    from gradiometer.service.desk import Desk, FullError
    from gradiometer.service.running import listen, serve
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "multipart", "prometheus_client", "python_multipart", "starlette", "uvicorn"):
        raise
    raise DependencyError(
        f"the service needs {error.name}, which is not installed; run: pip install 'gradiometer[serve]'"
    ) from error

__all__ = ["Desk", "FullError", "Limits", "listen", "make_app", "serve"]
