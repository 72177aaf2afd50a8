"""The one registry of errors that people meet.

Every class carries a stable code, the exit code of the command line, the HTTP status of the
faces, whether trying again
can help, and one sentence on what to do. The message says what happened. Exit codes follow
restic's published table:
0 success, 1 failure, 3 partial, 10 no repository, 11 locked, 12 wrong password, 130 interrupted.
"""

from __future__ import annotations

from typing import ClassVar


class HoldfastError(Exception):
    """Something went wrong that a person should read about: `message`, then `remedy`."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = ""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.remedy if remedy is None else remedy


class UsageError(HoldfastError):
    code = "usage"
    http_status = 400
    remedy = "Nothing was changed. See --help of the command for what it takes."


class PartialError(HoldfastError):
    """The work ended and was kept, but some of the source could not be read or written."""

    code = "partial"
    exit_code = 3
    remedy = "What was read is safe. Look at the listed files and run again."


class OutputError(HoldfastError):
    """Standard output is full, broken or closed."""

    code = "output-failed"
    remedy = (
        "The work itself was done, as far as no other error is told; part of what it printed is "
        "lost. Give standard output a place with room."
    )


class InterruptedByUserError(HoldfastError):
    code = "interrupted"
    exit_code = 130
    remedy = "Nothing is damaged. Run the command again; what was already stored is used."


# --- stores -------------------------------------------------------------------------------------
# ----------------------


class StoreError(HoldfastError):
    """A store did not do what was asked; whether it will on another try is `retryable`."""

    code = "store-failed"
    http_status = 502
    remedy = "Earlier backups are untouched. Check that the storage can be reached and run again."


class ObjectNotFoundError(StoreError):
    code = "object-not-found"
    http_status = 404
    remedy = "Run `holdfast check` to see whether anything depends on it."


class ObjectExistsError(StoreError):
    code = "object-exists"
    http_status = 409
    remedy = "Nothing was overwritten."


class StoreBusyError(StoreError):
    """A passing fault: time-out, reset, throttling, server error."""

    code = "store-busy"
    http_status = 503
    retryable = True
    remedy = "Earlier backups are untouched. Try again later."


class StoreDeniedError(StoreError):
    code = "store-denied"
    http_status = 403
    remedy = "Check the credentials and permissions of the storage. Nothing was changed."


class StorageFullError(StoreError):
    code = "storage-full"
    http_status = 507
    remedy = (
        "Earlier backups are untouched. "
        "Free space (`holdfast prune` and `forget --prune` work on a full disk) and run again."
    )


class UnsupportedStoreError(StoreError):
    code = "store-unsupported"
    http_status = 400
    remedy = "Write a directory, s3:..., or rest:http(s)://... address."


# --- network ------------------------------------------------------------------------------------
# ----------------------


class NetworkError(HoldfastError):
    """No answer: the name is unknown, the connection failed, broke or was too slow."""

    code = "network-failed"
    http_status = 502
    retryable = True
    remedy = "Check the address and the connection, and run again."


class CertificateError(NetworkError):
    code = "certificate-refused"
    retryable = False
    remedy = "If the server's certificate comes from your own authority, give that with --cacert."


class HostNotFoundError(NetworkError):
    code = "host-not-found"
    retryable = False
    remedy = "Check how the name is written, and the name server."


class RedirectError(NetworkError):
    code = "redirect-refused"
    retryable = False
    remedy = "Write the address that it really is at."


class EgressDeniedError(HoldfastError):
    """The address is one that requests may not go to."""

    code = "egress-denied"
    http_status = 403
    remedy = (
        "Nothing was sent. Name a public address, or have the administrator allow that network."
    )


# --- repositories -------------------------------------------------------------------------------
# ----------------------


class NoRepositoryError(HoldfastError):
    code = "no-repository"
    exit_code = 10
    http_status = 404
    remedy = (
        "Nothing was changed. Check the address given by -r, or make a new repository with "
        "`holdfast init`."
    )


class RepositoryExistsError(HoldfastError):
    code = "repository-exists"
    http_status = 409
    remedy = "Nothing was changed. Choose another place, or use the repository that is there."


class LockedError(HoldfastError):
    code = "locked"
    exit_code = 11
    http_status = 423
    retryable = True
    remedy = (
        "Nothing was changed. Wait for the other program, or give --retry-lock. "
        "Locks of dead programs go away by themselves."
    )


class LockLostError(HoldfastError):
    code = "lock-lost"
    exit_code = 11
    http_status = 409
    retryable = True
    remedy = "Nothing was committed. Run the command again; what was already stored is used."


class WrongPasswordError(HoldfastError):
    code = "wrong-password"
    exit_code = 12
    http_status = 403
    remedy = (
        "Nothing was changed. Give another password (--password-file, --password-command or "
        "HOLDFAST_PASSWORD)."
    )


class UnknownVersionError(HoldfastError):
    code = "unknown-version"
    http_status = 400
    remedy = "Nothing was changed. A newer Holdfast or restic made this repository; use that."


class DamagedError(HoldfastError):
    """Stored bytes are not what was written: authentication, digest or structure failed (I4)."""

    code = "damaged"
    remedy = (
        "Run `holdfast check --read-data` to see what is hit; "
        "the next backup writes again what the source still has."
    )


class UnreadableError(HoldfastError):
    """A blob, tree or snapshot that is needed is in no readable place."""

    code = "unreadable"
    remedy = DamagedError.remedy


class SnapshotNotFoundError(HoldfastError):
    code = "no-snapshot"
    http_status = 404
    remedy = "Nothing was changed. List them with `holdfast snapshots`."


class PathNotFoundError(HoldfastError):
    code = "no-path"
    http_status = 404
    remedy = "List what the snapshot holds with `holdfast ls`."


class VerificationError(HoldfastError):
    """What was sealed does not open to what was read; nothing of it was stored."""

    code = "verification-failed"
    remedy = (
        "Nothing wrong was stored. "
        "This points to faulty memory or a faulty processor: test the machine."
    )


class WorkerDiedError(HoldfastError):
    code = "worker-died"
    remedy = (
        "Nothing was committed. "
        "Look for the out-of-memory killer in the system log, then run again."
    )


# --- streams into and out of a server -----------------------------------------------------------
# ----------------------


class ClosedError(HoldfastError):
    """Something was asked of a stream that was abandoned, or of a part that is shutting down."""

    code = "closed"
    http_status = 503
    retryable = True
    remedy = "Nothing of it was kept. Send it again."


class NameRefusedError(HoldfastError):
    """A name that came with an upload is not one that a file below it can have."""

    code = "name-refused"
    http_status = 400
    remedy = "Nothing was kept. Send it under another name."


class ArchiveRefusedError(HoldfastError):
    """An uploaded archive is none, is damaged, or holds what may not be."""

    code = "archive-refused"
    http_status = 400
    remedy = "Nothing was kept. Make the archive anew and send it again."


# --- sources ------------------------------------------------------------------------------------
# ----------------------


class SourceError(HoldfastError):
    code = "source-failed"
    remedy = "No backup was made. Check the paths; earlier backups are untouched."


class SourceMissingError(SourceError):
    code = "source-missing"


class SourceEmptyError(SourceError):
    code = "source-empty"
    remedy = "No backup was made. If it is meant to be empty, say --allow-empty."


class RestoreError(HoldfastError):
    code = "restore-failed"
    remedy = (
        "What was restored stays. "
        "Mend the cause and run the same command again; finished files are kept."
    )


class MountError(HoldfastError):
    code = "mount-failed"
    remedy = "Nothing was changed. `holdfast restore` gives files back without FUSE."


# --- REST archiver ------------------------------------------------------------------------------
# ----------------------


class NoProjectError(HoldfastError):
    code = "no-project"
    http_status = 404
    remedy = (
        "Go to a project's folder, name one with -p, or make one with `holdfast api create NAME`."
    )


class ProjectError(HoldfastError):
    """The project's configuration cannot be used."""

    code = "project-invalid"
    http_status = 400
    remedy = "Nothing was fetched. `holdfast api validate-config` lists every mistake at once."


class ProjectBusyError(LockedError):
    code = "project-busy"
    remedy = "Another run of this project is at work. Wait for it; a dead one holds nothing."


class NothingStoredError(HoldfastError):
    code = "nothing-stored"
    http_status = 404
    remedy = "Collect first with `holdfast api run`."


class FetchError(HoldfastError):
    """The API did not give what was asked, for good or after all tries."""

    code = "fetch-failed"
    http_status = 502
    remedy = "What was fetched is kept; the archive is untouched. Run again to go on from here."

    def __init__(
        self, message: str, *, status: int | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        """HTTP status, where there was an answer."""


class UnreachableError(FetchError):
    code = "unreachable"
    retryable = True


class TlsError(FetchError):
    code = "tls-failed"


class AnswerError(FetchError):
    """The API answered with something that is not the data: a login page, an error object,
    another shape.
    """

    code = "bad-answer"


class AddressError(FetchError):
    """What an answer or a record names as an address is none."""

    code = "bad-address"


class AuthError(FetchError):
    code = "auth-failed"
    remedy = (
        "Check the [auth] section and that its secrets are still valid. The archive is untouched."
    )


class HookError(HoldfastError):
    code = "hook-failed"
    remedy = "Mend the script. What was fetched is kept; the archive is untouched."


class ExportError(HoldfastError):
    code = "export-failed"
    remedy = (
        "The archive is untouched and no partial file was left. Check the target and export again."
    )


# --- server -------------------------------------------------------------------------------------
# ----------------------


class RecordNotFoundError(HoldfastError):
    """The catalog has no such target, backup, user, ..."""

    code = "not-found"
    http_status = 404
    remedy = "Nothing was changed. List what there is."


class RecordExistsError(HoldfastError):
    code = "exists"
    http_status = 409
    remedy = "Nothing was changed. Choose another name."


class InvalidError(HoldfastError):
    """Values that cannot be: `fields` says of each what is wrong, as (code, sentence)."""

    code = "invalid"
    http_status = 400
    remedy = "Nothing was changed."

    def __init__(
        self,
        message: str,
        *,
        fields: dict[str, tuple[str, str]] | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.fields = fields or {}


class StateError(HoldfastError):
    """It cannot be done as things are now: recycling what is recycled, killing what has ended."""

    code = "wrong-state"
    http_status = 409
    remedy = "Nothing was changed."


class HeldError(StateError):
    """A hold protects it, or something still needs it."""

    code = "held"
    remedy = "Nothing was deleted. A hold ends by itself at its date."


class NotSignedInError(HoldfastError):
    """No credentials, or none that are known."""

    code = "not-signed-in"
    http_status = 401
    remedy = "Nothing was done. Sign in, or give the key."


class WrongCredentialsError(NotSignedInError):
    """Credentials were given, and they are wrong."""

    code = "wrong-credentials"


class DeniedError(HoldfastError):
    """Known, but not allowed."""

    code = "denied"
    http_status = 403
    remedy = "Nothing was done. Ask somebody whose role allows it."


class TooManyGuessesError(HoldfastError):
    code = "too-many-guesses"
    http_status = 429
    retryable = True
    remedy = "Wait, then try again. The right credentials from another address go on working."

    def __init__(self, message: str, *, wait: float = 0.0, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.wait = wait
        """Seconds until the next guess is looked at (Retry-After)."""


class SessionExpiredError(HoldfastError):
    """A browser's session was good once, and is over."""

    code = "session-expired"
    http_status = 410
    remedy = "Nothing was lost. Make a new session with the access URL."


class QuotaError(StorageFullError):
    code = "quota"
    http_status = 413
    remedy = "Earlier backups are untouched. Ask for more room, or forget what is not needed."


class BusyError(HoldfastError):
    """The server has as much to do as it may; nothing of the request was taken."""

    code = "busy"
    http_status = 503
    retryable = True
    remedy = "Nothing was changed. Try again in a little while."


class CatalogError(HoldfastError):
    """The catalog cannot be read or written."""

    code = "catalog-failed"
    http_status = 503
    remedy = (
        "Backups are untouched. `holdfast catalog rebuild` makes the catalog anew from the pools."
    )


class CatalogUnreachableError(CatalogError):
    """Its database does not answer: it is down, or busy for too long."""

    code = "catalog-unreachable"
    retryable = True
    remedy = "Backups are untouched. See that the database can be reached, then try again."


class CatalogNewerError(CatalogError):
    code = "catalog-newer"
    remedy = "Nothing was changed. Run the newer Holdfast that wrote it."


class DataFolderBusyError(LockedError):
    code = "data-folder-busy"
    remedy = "Another server works on this data folder. Stop that one first."


class ConfigurationError(HoldfastError):
    code = "configuration"
    http_status = 500
    remedy = "Nothing was started. Mend the configuration file."


class AddressInUseError(ConfigurationError):
    """Another process listens there."""

    code = "address-in-use"
    remedy = "Nothing was started. Stop what listens there, or listen elsewhere."


class DeposedError(HoldfastError):
    """This process lost its lease: another goes on with its work."""

    code = "deposed"
    exit_code = 75
    http_status = 503
    retryable = True
    remedy = "Nothing was committed here. The process starts anew by itself."


# --- services that keep files ------------------------------------------------------------------
# ----------------------


class ServiceError(HoldfastError):
    """A backup service did not take, give or list what was asked of it."""

    code = "service-failed"
    http_status = 502
    remedy = "Nothing was replaced: such a service keeps what it has. Run the command again later."


class ServiceDeniedError(ServiceError):
    code = "service-denied"
    http_status = 403
    remedy = "Nothing was changed. Check the access url: its user name and password are refused."


class ServiceFileMissingError(ServiceError):
    code = "no-service-file"
    http_status = 404
    remedy = "List what is there; files go when the account's retention period ends."


class ServiceFileExistsError(ServiceError):
    code = "service-file-exists"
    http_status = 409
    remedy = "Nothing was replaced. Choose another name; files of a backup account never change."


class AgentError(HoldfastError):
    """An agent could not do what it was ordered to."""

    code = "agent-failed"
    http_status = 502
    remedy = "Earlier backups are untouched. Look at the agent's journal."


class AgentLostError(HoldfastError):
    """Whoever did the work is gone for good."""

    code = "agent-lost"
    http_status = 502
    remedy = "Earlier backups are untouched. Authorise the agent, then restart the task."


class StateFolderBusyError(LockedError):
    """Another agent works on a state folder."""

    code = "state-folder-busy"
    remedy = "Nothing was changed. Stop that agent, or give this one a folder of its own."


def of_code(code: object, message: str, remedy: str | None = None) -> HoldfastError:
    """The error that another program has met and told; `AgentError` where nobody knows its code."""
    for kind in globals().values():
        if isinstance(kind, type) and issubclass(kind, HoldfastError) and kind.code == code:
            return kind(message, remedy=remedy)
    return AgentError(message, remedy=remedy)
