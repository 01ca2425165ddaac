"""The API's refusals: a status and a body in one of Procore's three shapes."""

from typing import Any

from procorefs.sandbox.faults.dialect import Dialect


class ApiError(Exception):
    """Ends a call with `status`; `errors` is a text, or field -> messages."""

    def __init__(self, status: int, errors: str | dict[str, list[str]]) -> None:
        super().__init__(f"{status}: {errors}")
        self.status = status
        self.errors = errors

    def body(self, dialect: Dialect) -> dict[str, Any]:
        """The JSON body. (procore-api.md, Every API call)"""
        if dialect.error_shape == "errors":
            return {"errors": self.errors}
        text = self.errors if isinstance(self.errors, str) else _in_one_line(self.errors)
        if dialect.error_shape == "list":
            return {"errors": text.split("; ")}
        if dialect.error_shape == "text":
            return {"errors": text}
        if dialect.error_shape == "message":
            return {"message": text}
        return {"error": {"code": str(self.status), "message": text, "details": []}}


class FileConflict(ApiError):
    """409; the body shows the file as it is now."""

    def __init__(self, file: dict[str, Any], words: str, kind: str) -> None:
        super().__init__(409, {"base": [words]})
        self.file = file
        self.kind = kind

    def body(self, dialect: Dialect) -> dict[str, Any]:  # noqa: ARG002 - this body has one shape only
        return {"errors": self.errors, "error_type": self.kind, "file": self.file}


def checked_out(file: dict[str, Any], holder: str) -> FileConflict:
    """409: somebody else holds the file."""
    return FileConflict(file, f"File is checked out by {holder}", "file_checked_out")


def invalid(field: str, message: str) -> ApiError:
    """400: one field or parameter is wrong."""
    return ApiError(400, {field: [message]})


def not_found(what: str) -> ApiError:
    """404: gone, or not visible to the caller."""
    return ApiError(404, f"{what} not found")


def forbidden(reason: str) -> ApiError:
    """403: no permission."""
    return ApiError(403, reason)


def _in_one_line(errors: dict[str, list[str]]) -> str:
    return "; ".join(
        message if field == "base" else f"{field} {message}"
        for field, messages in errors.items()
        for message in messages
    )
