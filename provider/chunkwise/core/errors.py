"""Every exception that Chunkwise raises on purpose.

Each names the thing, the place and the way out, and carries no secret: no query string, no header value, no
cursor. ``transient`` tells a caller whether the same call may succeed later: an operator retries a transient
error and fails at once on any other.
"""

from __future__ import annotations

from typing import Self


class ChunkwiseError(Exception):
    """Base of all errors of Chunkwise."""

    #: whether the same work may succeed if it is tried again later
    transient: bool = False
    #: parameters that the text names, as the operators have them: the command line puts its options there
    parameters: tuple[str, ...] = ()

    def naming(self, *parameters: str) -> Self:
        """Say which parameters the text names: ``raise ConfigError("on_exists is ...").naming("on_exists")``.

        :return: this error.
        """
        self.parameters = (*self.parameters, *parameters)
        return self


class ConfigError(ChunkwiseError, ValueError):
    """Parameters that cannot work, found before any request was made."""


class Killed(ChunkwiseError):
    """The job was told to end."""

    transient = True


class BudgetSpent(ChunkwiseError):
    """A processor ended by itself, before its environment would have killed it."""


class OutOfTime(BudgetSpent):
    """Too little was left of the time that its environment gives a processor."""


class OutOfMemory(BudgetSpent):
    """Too little was left of the memory that its environment gives a processor."""


class SecretUnavailable(ChunkwiseError):
    """A secret could not be had from where it is kept; transient when it may be later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class SecretRejected(ConfigError):
    """A secret is missing, or is not of the form that it must have; names it, never its value.

    :param secret: its name.
    """

    def __init__(self, message: str, *, secret: str) -> None:
        super().__init__(message)
        self.secret = secret


# --- paging: the API --------------------------------------------------------------------------------------


class PagingError(ChunkwiseError):
    """A paged read that would have given a wrong or short result."""


class HttpStatusError(PagingError):
    """The API answered with a status that is not retried (401, 403, 404, 422 ...)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiUnavailable(HttpStatusError):
    """The API, or the token endpoint of its credentials, answered with a status that may pass (408, 425, 429,
    5xx).
    """

    transient = True


class ConnectionFailed(PagingError):
    """No whole answer: no connection, a broken one, or one that was silent for too long.

    Transient, except for a server certificate that is not trusted, and headers that cannot be read.
    """

    transient = True

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class RetriesExhausted(PagingError):
    """A page failed in a way that may pass, on every attempt that its retry policy allows."""

    transient = True


class BodyTruncated(PagingError):
    """A body ended before its announced end (Content-Length, last chunk, end of its gzip stream)."""

    transient = True


class BodyDamaged(PagingError):
    """A compressed response body that cannot be decoded, or whose checksum is wrong."""

    transient = True


class UnsupportedEncoding(PagingError):
    """A response body in a content encoding that was not asked for."""


class PageChanged(PagingError):
    """A page that was asked for again after a broken read no longer starts with the records it had before."""

    transient = True


class CursorExpired(PagingError):
    """The cursor that a retried run started from is no longer known to the API."""

    transient = True


class InvalidPage(PagingError):
    """A body that is not valid JSON."""


class RecordsNotFound(PagingError):
    """The records selector finds nothing in a page, or something that is not an array."""


class RecordNotObject(PagingError):
    """An element of the records array is not a JSON object."""


class ErrorBody(PagingError):
    """A successful status with a body that says the request failed."""


class InvalidEnvelope(PagingError):
    """What a page says about paging (a cursor, flag, link or total) is missing or not of the form that it
    must have.
    """


class MissingCursor(PagingError):
    """The API says that there is more, and does not say how to ask for it."""


class CursorRepeated(PagingError):
    """The next request is one that this run has already made."""


class PageRepeated(PagingError):
    """A page with the very same records as an earlier one."""


class LimitExceeded(PagingError):
    """A run reached its cap of pages, records, bytes or seconds before the API ended."""


class TotalMismatch(PagingError):
    """The API declared another number of records than it delivered."""


class TotalChanged(PagingError):
    """The total that the API declares changed while its pages were read."""


class PageSizeCapped(PagingError):
    """The server gives shorter pages than it was asked for, in the middle of the run."""


class TooManyEmptyPages(PagingError):
    """More empty pages in a row than the run allows."""


class ForeignOrigin(PagingError):
    """A next link or redirect points to an origin that is not the API's and is not allowed."""


# --- records ----------------------------------------------------------------------------------------------


class RecordError(ChunkwiseError):
    """A record that cannot become an output line."""


class TransformFailed(RecordError):
    """A transform cannot be applied to one record."""


class StampConflict(RecordError):
    """A record already has a key that a stamp would add."""


class QuarantineLimitExceeded(RecordError):
    """More records went to quarantine than the policy allows."""


class EmptyResult(ChunkwiseError):
    """The API delivered no record at all, and ``on_empty`` is ``"fail"``."""


# --- storage: S3 ------------------------------------------------------------------------------------------


class StorageError(ChunkwiseError):
    """An object could not be read or written as asked."""


class ObjectTooLarge(StorageError):
    """More bytes than one multipart upload can hold."""


class UploadFailed(StorageError):
    """A part, the completion or the abort of an upload failed; the text says what is left behind, if anything
    is.

    Not transient when S3 would refuse the same request again (access denied, no such bucket ...).
    """

    transient = True


class UploadConflict(StorageError):
    """S3 answered 409 ConditionalRequestConflict: another writer was busy with the same key. Start again."""

    transient = True


class UploadLost(StorageError):
    """A saved upload can't be continued: it is gone, or its parts are not those that were saved."""

    transient = True


class ObjectExists(StorageError):
    """The key already has an object and ``on_exists`` is ``"fail"``, or it changed under a conditional
    replace.
    """


class SourceChanged(StorageError):
    """A pinned object is gone, or is no longer the one that was pinned."""


class SourceNotFound(SourceChanged):
    """There is no object of this key, or no such version of it."""


class ReadFailed(StorageError):
    """An object could not be read; transient when the same request may succeed later."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class ObjectChanged(StorageError):
    """A conditional write or delete found another object than the one that it was told to expect."""


class DeleteFailed(StorageError):
    """Objects could not be deleted; transient when the same request may succeed later."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class TaggingFailed(StorageError):
    """Tags of an object could not be read or written; transient when the same request may succeed later."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class TooManyTags(StorageError):
    """An object would have more tags than S3 allows; it keeps those that it has."""


class LeaseHeld(StorageError):
    """Somebody else holds the lease, and it has not expired."""

    transient = True


class LeaseLost(StorageError):
    """The lease expired and somebody else took it over."""

    transient = True


# --- formats ----------------------------------------------------------------------------------------------


class FormatError(ChunkwiseError):
    """A source that is not what its format says, or not of a kind that can be handled."""


class UnsupportedSource(FormatError):
    """A format, dialect, encoding or compression that Chunkwise does not handle, by name."""


class InvalidSource(FormatError):
    """The source breaks the rules of its format; the text names the row or byte."""


class RowInvalid(FormatError):
    """One row or record that cannot be read or written as asked."""


class SchemaMismatch(FormatError):
    """Parts or values do not agree with the schema that the plan pinned."""


# --- protect ----------------------------------------------------------------------------------------------


class MappingError(ConfigError):
    """A ``mapping.json`` that is wrong, or does not fit the columns of the source."""


class ProtectFailed(ChunkwiseError):
    """Values could not be protected; names column and rows, never a value."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


# --- dispatch ---------------------------------------------------------------------------------------------


class DispatchError(ChunkwiseError):
    """A dispatch that cannot go on as it is."""


class DispatchExists(DispatchError):
    """There is a dispatch already, and ``on_existing`` is ``"fail"``."""


class DispatchDiffers(DispatchError):
    """The dispatch that stands there is of another source or config; names the fields that differ."""


class DispatchNotFound(DispatchError):
    """There is no plan in the staging directory."""


class DispatchCancelled(DispatchError):
    """The dispatch was cancelled."""


class AttemptRunning(DispatchError):
    """An attempt of this name has begun already: the same invocation was delivered twice."""


class ChunkFailed(DispatchError):
    """A chunk could not be processed; names the chunk and why."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class InvokeFailed(DispatchError):
    """A function could not be invoked; names the function and what Lambda answered."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class FunctionFailed(DispatchError):
    """A function ended without a report: names function, request, chunk and where its log is."""

    transient = True


class FunctionTimedOut(FunctionFailed):
    """A function was ended by Lambda because its time was over."""

    transient = False


class FunctionOutOfMemory(FunctionFailed):
    """A function was ended by Lambda because it needed more memory than it has."""

    transient = False


class ChunksMissing(DispatchError):
    """Chunks have no done record: they are pending, running or lost."""

    transient = True


class ProofFailed(DispatchError):
    """What the done records say does not add up: ranges, states, rows, checksums or parts."""


# --- queues -----------------------------------------------------------------------------------------------


class QueueError(ChunkwiseError):
    """A queue could not be read or written; transient when the same call may succeed later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class ArrivalsLost(ChunkwiseError):
    """Objects that a run was started for are no longer known to Airflow."""


class MessageTooLong(QueueError):
    """A queue takes no messages of this size.

    :param limit: bytes that it takes.
    """

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class RequestRefused(ChunkwiseError):
    """A request to a webhook that cannot be accepted; says what is wrong with it, and holds no data.

    :param status: of the HTTP answer.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.transient = status >= 500


# --- delta ------------------------------------------------------------------------------------------------


class DeltaError(ChunkwiseError):
    """A Delta table that cannot be read or written as asked."""


class UnsupportedTable(DeltaError):
    """The table uses a feature of Delta that a writer of whole files must not ignore; names it."""


class LogDamaged(DeltaError):
    """The log of a table has a gap, or an entry that cannot be read."""


class CommitContended(DeltaError):
    """Other writers were faster at every attempt to commit."""

    transient = True


class TableNotFound(DeltaError):
    """There is no Delta table at this place."""


class UnsupportedColumn(DeltaError):
    """A column that a catalog cannot hold, or that its engines cannot read; names it."""


class CatalogConflict(DeltaError):
    """The catalog has something else of this name."""


class CatalogError(DeltaError):
    """A catalog could not be read or written; transient when the same call may succeed later."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


# --- exports of RDS ---------------------------------------------------------------------------------------


class RdsExportError(ChunkwiseError):
    """An export of RDS or Aurora that cannot be used."""


class ExportNotFound(RdsExportError):
    """RDS knows no export task of this name."""


class ExportFailed(RdsExportError):
    """The export task failed; says what RDS gives as the cause."""


class ExportCancelled(RdsExportError):
    """Somebody cancelled the export task."""


class ExportIncomplete(RdsExportError):
    """RDS says that the export is complete, and wanted tables, or files of them, are not there."""


class ExportDamaged(RdsExportError):
    """What the export's info files or the names of its files say cannot be read, or contradicts itself."""
