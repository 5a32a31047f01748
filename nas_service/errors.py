"""Every error that the service raises on purpose.

NasError
├── InvalidRequest       422  a value is not allowed; `pointer` is its JSON pointer
├── Unauthenticated      401  no token, or one that is not known
├── Forbidden            403  the token's role may not do this, or the request comes from a foreign page
├── NotFound             404  no such thing
├── Conflict             409  it cannot be done in this state, or the key was used with another body
├── PreconditionFailed   412  If-Match names an older version
├── TooLarge             413  the body is larger than the limit
├── DataAway             409  the data set of a search cannot be read, or has changed since the search was made
├── Unavailable          503  a part that is needed is away; `retry_after` seconds is a good time to come back
├── Misconfigured        --   a setting or the environment is wrong; ends the process with its message
└── LeaseLost            --   another driver owns the search now; this one must stop without a write
"""

from __future__ import annotations

from collections.abc import Iterable


def json_pointer(path: Iterable[object]) -> str:
    """RFC 6901: ("recipe", "a/b", 0) is /recipe/a~1b/0."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class NasError(Exception):
    """Root of the tree. `status` is the HTTP status, `title` the problem's short name."""

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, *, pointer: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.retry_after = retry_after


class InvalidRequest(NasError):
    """A value is not allowed; the detail names it and what was allowed."""

    status = 422
    title = "Invalid request"


class Unauthenticated(NasError):
    """No token, or one that is not known."""

    status = 401
    title = "Not signed in"


class Forbidden(NasError):
    """The token's role may not do this, or the request comes from a foreign page."""

    status = 403
    title = "Not allowed"


class NotFound(NasError):
    """No such thing."""

    status = 404
    title = "Not found"


class Conflict(NasError):
    """Not possible in the present state."""

    status = 409
    title = "Conflict"


class DataAway(Conflict):
    """The data set of a search cannot be read, or is another than it was: nothing is wrong with the search."""


class PreconditionFailed(NasError):
    """If-Match names another version than the present one."""

    status = 412
    title = "Changed meanwhile"


class TooLarge(NasError):
    """The body is larger than the limit."""

    status = 413
    title = "Too large"


class Unavailable(NasError):
    """A part that is needed is away for now."""

    status = 503
    title = "Not available"


class Misconfigured(NasError):
    """A setting or the environment is wrong."""


class LeaseLost(NasError):
    """Another driver owns the search now."""
