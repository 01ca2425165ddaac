"""The two applications of a sandbox: the API with login and control, and the store."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from procorefs.sandbox.api.call_contract import route
from procorefs.sandbox.api.conformance import Checker
from procorefs.sandbox.api.routes import (
    custom_fields,
    directory,
    documents,
    files,
    folders,
    login,
    permissions,
    tags,
    uploads,
)
from procorefs.sandbox.control.control_api import control_routes
from procorefs.sandbox.state import Sandbox
from procorefs.sandbox.storage.storage_host import redirect_routes, storage_routes
from procorefs.sandbox.storage.upload_receiver import upload_routes

_RESOURCES = (directory, permissions, documents, folders, files, uploads, tags, custom_fields)


def create_app(sandbox: Sandbox, checker: Checker | None = None) -> Starlette:
    """The API's host: /rest, /oauth, version urls, /sandbox."""

    async def unknown(request: Request, _error: Exception) -> Response:
        sandbox.calls.count(f"{request.method} unknown")
        return JSONResponse({"errors": f"No route {request.method} {request.url.path}"}, 404)

    app = Starlette(
        routes=[
            *(
                route(sandbox, checker, endpoint)
                for resource in _RESOURCES
                for endpoint in resource.ENDPOINTS
            ),
            *login.routes(sandbox, checker),
            *redirect_routes(sandbox),
            *control_routes(sandbox, checker),
        ],
        exception_handlers={404: unknown},
    )
    app.router.redirect_slashes = False
    return app


def create_storage_app(sandbox: Sandbox) -> Starlette:
    """The store's host."""
    return Starlette(routes=[*storage_routes(sandbox), *upload_routes(sandbox)])
