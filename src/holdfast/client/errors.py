"""What goes wrong between a program and its backup account, by the names that RestBackup's own
library gave it.

All are `OSError`s, as there, and carry a stable code, an exit code and a remedy besides.
"""

from __future__ import annotations

from holdfast.core.errors import (
    DamagedError,
    NetworkError,
    ServiceDeniedError,
    ServiceError,
    ServiceFileExistsError,
    ServiceFileMissingError,
    SourceError,
    UsageError,
    WrongPasswordError,
)


class RestBackupException(ServiceError, OSError):  # noqa: N818  the original's name
    """The service did not do what was asked."""

    status: int | None = None
    """HTTP status of the last answer, where there was one."""
    attempts: int = 1
    """How many times it was asked."""
    retry_after: float = 0.0
    """Seconds that the service asks to wait."""

    def add(self, more: str, *, remedy: str | None = None) -> None:
        """Says more."""
        self.message += more
        self.args = (self.message,)
        self.advice = remedy or self.advice


class RestBackup401NotAuthorizedException(RestBackupException, ServiceDeniedError):  # noqa: N818  the same
    code = ServiceDeniedError.code
    http_status = ServiceDeniedError.http_status
    remedy = ServiceDeniedError.remedy


class RestBackup404NotFoundException(RestBackupException, ServiceFileMissingError):  # noqa: N818  the same
    code = ServiceFileMissingError.code
    http_status = ServiceFileMissingError.http_status
    remedy = ServiceFileMissingError.remedy


class RestBackup405MethodNotAllowed(RestBackupException, ServiceFileExistsError):  # noqa: N818  the same
    """Of a PUT: the name is taken."""

    code = ServiceFileExistsError.code
    http_status = ServiceFileExistsError.http_status
    remedy = ServiceFileExistsError.remedy


class RestBackupNetworkException(RestBackupException, NetworkError):  # noqa: N818  the same
    """No whole answer; whether the request had an effect is not known."""

    passing: bool = True
    """Whether another try may help."""
    code = NetworkError.code
    http_status = NetworkError.http_status
    retryable = True
    remedy = NetworkError.remedy


class InvalidAccessUrl(UsageError, ValueError):  # noqa: N818  the same
    """The text is in no message: it holds a password."""

    remedy = (
        "Nothing was sent. Write it as https://USER:PASSWORD@HOST/, letters and digits only in "
        "both, with the slash at the end."
    )


class InvalidName(UsageError, ValueError):  # noqa: N818  the same
    remedy = "Nothing was sent. Choose another name for the file in the account."


class SourceChangedException(SourceError, OSError):  # noqa: N818  the same
    """What is read is not as long as it was said to be."""

    remedy = "Nothing was stored. Run again when nobody writes to it, or copy it first."


class DataDamagedException(DamagedError, OSError):  # noqa: N818  the original's name
    """An encrypted stream is not what was written."""

    remedy = (
        "Nothing damaged was given back; what was may end too early. Fetch the file again, or use "
        "an older one."
    )


class DataTruncatedException(DataDamagedException):
    """Its end is missing."""


class BadMacException(DataDamagedException):
    """A part of it is not authentic."""


class WrongPassphraseException(BadMacException, WrongPasswordError):  # noqa: N818  the same
    """Already its first part is not: mostly, the passphrase is another one."""

    code = WrongPasswordError.code
    exit_code = WrongPasswordError.exit_code
    http_status = WrongPasswordError.http_status
    remedy = (
        "Nothing was given back. Give the passphrase that the file was encrypted with; if it is "
        "that one, the file is damaged at its beginning, or was never encrypted."
    )
