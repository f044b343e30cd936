"""One page request after the other: signed, limited, redirected and retried."""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HeaderParsingError, HTTPError
from urllib3.util.response import assert_header_parsing

from chunkwise.core.errors import (
    ApiUnavailable,
    ConfigError,
    ConnectionFailed,
    ForeignOrigin,
    HttpStatusError,
    PagingError,
    RetriesExhausted,
)
from chunkwise.core.paging.auth import NoAuth, RefreshableAuth
from chunkwise.core.paging.call import Addressing, Call
from chunkwise.core.paging.model import BaseRequest, PageRequest
from chunkwise.core.paging.origin import Origin
from chunkwise.core.paging.rate_limit import RateLimit
from chunkwise.core.paging.redaction import error_message, hidden_queries, status_text
from chunkwise.core.paging.response import ACCEPT_ENCODING, CONNECTION_ERRORS, PageResponse, broken_how
from chunkwise.core.paging.retry import RetryEvent, RetryPolicy, asked_wait, is_retryable

__all__ = ["Attempt", "RetryEvent", "Transport"]

_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# What a block that reads a body may raise because the connection broke. No other OSError has to do with it.
_BODY_ERRORS: Final = (requests.RequestException, HTTPError, ConnectionError, TimeoutError)

_DEFAULT_ACCEPT_ENCODING: Final = requests.utils.default_headers()["Accept-Encoding"]


class Attempt:
    """One answer to a page request, in whose ``with`` block the body is read.

    A transient error in the block is held back: the loop over :meth:`Transport.attempts` then goes on with
    the next attempt, after a wait. Any other error passes through.
    """

    def __init__(self, response: PageResponse) -> None:
        self._response = response
        self.failure: PagingError | None = None

    def __enter__(self) -> PageResponse:
        return self._response

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        self._response.close()
        if isinstance(error, PagingError) and error.transient:
            # traceback and context would keep the buffers of the failed read alive during the wait
            self.failure = error.with_traceback(None)
            self.failure.__context__ = None
        elif isinstance(error, _BODY_ERRORS):
            self.failure = ConnectionFailed(
                f"the body of {self._response.place} broke off: {broken_how(error)}"
            )
        return self.failure is not None


class Transport:
    """Make the requests of one run over one session, and make them again where that may help.

    Credentials (the session's auth, headers, parameters and cookies, the base request's headers and
    parameters) go to the origin of the base URL and nowhere else. Timeouts are always set. It may be used
    from several threads at once.

    :param session: configured for the API: auth, headers, proxies, certificates.
    :param base: what all pages share. Requests with a body are sent again too, so a POST must be a search.
    :param retry: when and how often a page is asked for again.
    :param connect_timeout: seconds to a connection.
    :param read_timeout: seconds between two bytes of an answer.
    :param rate_limit: requests in a time that are not exceeded.
    :param allowed_origins: other origins that next links and redirects may lead to, e.g.
        ``"https://cdn.example.com"``; they get no credentials.
    :param end_statuses: statuses that mean the end of the run.
    :param sleep: waits for a number of seconds; may raise, to interrupt a run.
    :param rng: a random number in [0, 1).
    :param clock: seconds since 1970.
    :param on_retry: is told of each wait before it begins.
    """

    def __init__(
        self,
        session: requests.Session,
        base: BaseRequest,
        *,
        retry: RetryPolicy | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        rate_limit: RateLimit | None = None,
        allowed_origins: Collection[str] = (),
        end_statuses: Collection[int] = (),
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        on_retry: Callable[[RetryEvent], None] | None = None,
    ) -> None:
        if connect_timeout <= 0 or read_timeout <= 0:
            raise ConfigError("connect_timeout and read_timeout must be more than 0 seconds")
        self._session = session
        self._bare = _bare_session(session)
        self._addressing = Addressing(base, allowed_origins)
        self._policy = retry or RetryPolicy()
        self._timeout = (connect_timeout, read_timeout)
        self._rate_limit = rate_limit
        self._end_statuses = frozenset(end_statuses)
        self._sleep = sleep
        self._rng = rng
        self._clock = clock
        self._on_retry = on_retry
        self._environments: dict[Origin, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._refreshed = 0
        #: requests that were made again so far, after a wait
        self.retries = 0
        #: seconds spent in these waits
        self.wait_seconds = 0.0

    def attempts(self, request: PageRequest) -> Generator[Attempt, None, None]:
        """Ask for a page, and again while it fails in a way that may pass::

            for attempt in transport.attempts(request):
                with attempt as response:
                    consume(response)

        The loop ends after the first block that ends without a transient error. Statuses are dealt with here:
        a block gets a success, or one of ``end_statuses`` (``response.is_end``).

        :raises RetriesExhausted: after the last attempt, with the last failure as its cause.
        :raises HttpStatusError: for a status that will not pass.
        :raises ForeignOrigin: for a link or redirect to an origin that is not allowed.
        """
        call = self._addressing.call(request)
        number, waited, may_refresh = 1, 0.0, True
        while True:
            status: int | None = None
            asked: float | None = None
            failure: PagingError | None = None
            try:
                exchange = self._exchange(call)
            except PagingError as error:
                if not error.transient:
                    raise
                failure = error.with_traceback(None)
            else:
                status = exchange.response.status
                if exchange.ok:
                    attempt = Attempt(exchange.response)
                    yield attempt
                    failure = attempt.failure
                    if failure is None:
                        return
                elif is_retryable(status, exchange.response.headers):
                    failure = ApiUnavailable(exchange.error_text(), status=status)
                    asked = asked_wait(status, exchange.response.headers, self._clock())
                elif status == 401 and may_refresh and exchange.call.own and self._can_refresh():
                    exchange.discard()
                    failure = self._refresh(exchange.refreshed)
                    if failure is None:
                        may_refresh = False
                        continue
                else:
                    raise HttpStatusError(exchange.error_text(), status=status)
            wait = self._next_wait(number, waited, failure, asked)
            if self._on_retry is not None:
                self._on_retry(
                    RetryEvent(
                        place=call.place,
                        attempt=number,
                        attempts=self._policy.attempts,
                        status=status,
                        reason=str(failure),
                        wait_seconds=wait,
                    )
                )
            with self._lock:
                self.retries += 1
                self.wait_seconds += wait
            self._sleep(wait)
            waited += wait
            number += 1

    def _next_wait(self, number: int, waited: float, failure: PagingError, asked: float | None) -> float:
        """Seconds until the attempt after ``number``.

        :raises RetriesExhausted: if there is none.
        """
        policy = self._policy
        if number >= policy.attempts:
            raise RetriesExhausted(f"gave up after {_attempts(number)}: {failure}") from failure
        if asked is not None and asked > policy.max_wait_seconds:
            raise RetriesExhausted(
                f"gave up after {_attempts(number)}: the server asks to wait {asked:.0f} s,"
                f" longer than max_wait_seconds = {policy.max_wait_seconds:.0f}: {failure}"
            ) from failure
        wait = policy.wait(number, self._rng(), asked)
        if policy.budget_seconds is not None and waited + wait > policy.budget_seconds:
            raise RetriesExhausted(
                f"gave up after {_attempts(number)}: a wait of {wait:.1f} s would exceed"
                f" budget_seconds = {policy.budget_seconds:g}: {failure}"
            ) from failure
        return wait

    def _can_refresh(self) -> bool:
        return isinstance(self._session.auth, RefreshableAuth)

    def _refresh(self, refreshed: int) -> PagingError | None:
        """New credentials, unless another thread got them since the request; an error that may pass."""
        with self._refreshing:
            auth = self._session.auth
            if self._refreshed == refreshed and isinstance(auth, RefreshableAuth):
                try:
                    auth.refresh()
                except PagingError as error:
                    if not error.transient:
                        raise
                    return error.with_traceback(None)
                self._refreshed += 1
        return None

    def _exchange(self, call: Call) -> _Exchange:
        """Make a call and follow its redirects."""
        refreshed = self._refreshed
        sent: list[requests.PreparedRequest] = []
        for _ in range(_MAX_REDIRECTS + 1):
            response, location = self._send(call, sent)
            status = response.status_code
            page = PageResponse(response, call.place, is_end=status in self._end_statuses)
            if self._rate_limit is not None and call.own:
                self._rate_limit.observe(page.headers, self._clock(), at_most=self._policy.max_wait_seconds)
            exchange = _Exchange(call, page, sent, refreshed)
            if status not in _REDIRECTS or not location or page.is_end:
                return exchange
            exchange.discard()
            call = self._addressing.redirected(call, response.url, status, location)
        raise HttpStatusError(
            f"{status_text(call.place, status)}, after {_MAX_REDIRECTS} redirects: they go round in a circle",
            status=status,
        )

    def _send(self, call: Call, sent: list[requests.PreparedRequest]) -> tuple[requests.Response, str | None]:
        """Sign one call, send it, and read the head of the answer; with the target of a redirect."""
        session = self._session if call.own else self._bare
        prepared = self._prepare(session, call)
        sent.append(prepared)
        locations: list[str | None] = []

        def take_location(response: requests.Response, **_: Any) -> None:
            # requests would read the whole body of a redirect even if it is told not to follow it
            follow = response.status_code in _REDIRECTS
            locations.append(response.headers.pop("location", None) if follow else None)

        prepared.register_hook("response", take_location)  # type: ignore[no-untyped-call]
        settings = self._environment(session, call, str(prepared.url))
        if self._rate_limit is not None:
            self._rate_limit.acquire(self._sleep)
        failure: PagingError | ConfigError | None
        try:
            with hidden_queries():
                response = session.send(prepared, timeout=self._timeout, allow_redirects=False, **settings)
            failure = _headers_lost(call, response)
        except CONNECTION_ERRORS as error:
            failure = self._describe(call, error)
        if failure is None:
            return response, locations[-1]
        # outside of the except block: the errors of requests hold whole URLs, and must not be chained
        raise failure

    def _environment(self, session: requests.Session, call: Call, url: str) -> Mapping[str, Any]:
        """Proxies and certificates as the environment has them, looked up once for each origin."""
        settings = self._environments.get(call.origin)
        if settings is None:
            settings = session.merge_environment_settings(url, {}, True, session.verify, None)
            self._environments[call.origin] = settings
        return settings

    def _describe(self, call: Call, error: BaseException) -> PagingError | ConfigError:
        connect, read = self._timeout
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return ConnectionFailed(f"{call.place} could not connect within connect_timeout = {connect:g} s")
        if isinstance(error, requests.exceptions.ReadTimeout):
            return ConnectionFailed(f"{call.place} was not answered within read_timeout = {read:g} s")
        if isinstance(error, requests.exceptions.SSLError) and _certificate_refused(error):
            return ConnectionFailed(
                f"{call.place} has a certificate that is not trusted:"
                " set the session's verify to its CA bundle",
                transient=False,
            )
        if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, InvalidProxyURL
            return ConfigError(f"{call.place} cannot be requested: {type(error).__name__}")
        return ConnectionFailed(f"{call.place} failed: {broken_how(error)}")

    def _prepare(self, session: requests.Session, call: Call) -> requests.PreparedRequest:
        """Merge a call with its session, and sign it.

        The session's own parameters are added where the URL does not carry them already: a next link often
        does.
        """
        query = list(call.query)
        if isinstance(session.params, Mapping):
            present = {
                name for name, _ in [*query, *parse_qsl(urlsplit(call.url).query, keep_blank_values=True)]
            }
            query += [(name, str(value)) for name, value in session.params.items() if name not in present]
        headers = CaseInsensitiveDict({**session.headers, **CaseInsensitiveDict(call.headers)})
        given = CaseInsensitiveDict(call.headers)
        if (
            "Accept-Encoding" not in given
            and session.headers.get("Accept-Encoding") == _DEFAULT_ACCEPT_ENCODING
        ):
            headers["Accept-Encoding"] = ACCEPT_ENCODING
        for name, value in headers.items():
            if value is not None and not _fits_header(value):
                raise ConfigError(f"the request header {name!r} has a value that no header can have")
        # an explicit Authorization header counts more than a .netrc file, which requests would prefer
        auth = NoAuth() if "Authorization" in headers and not session.auth else None
        problem = ""
        prepared = requests.PreparedRequest()
        try:
            prepared = session.prepare_request(
                requests.Request(
                    call.method, call.url, headers=headers, params=query, data=call.body, auth=auth
                )
            )
        except (requests.RequestException, UnicodeError) as error:
            problem = type(error).__name__
        if problem:
            raise ConfigError(f"{call.place} cannot be requested: {problem}")
        # the URL that is sent, as requests reads it, decides: not the one that was checked before
        if Origin.of(prepared.url or "") != call.origin:
            raise ForeignOrigin(f"{call.place} would not be sent to {call.origin}: its URL is ambiguous")
        return prepared


class _Exchange:
    """An answer that is no redirect to follow, and the requests that led to it."""

    def __init__(
        self, call: Call, response: PageResponse, sent: list[requests.PreparedRequest], refreshed: int
    ) -> None:
        self.call = call
        self.response = response
        self.refreshed = refreshed
        self._sent = sent

    @property
    def ok(self) -> bool:
        """Whether its body is to be read."""
        return self.response.is_end or 200 <= self.response.status <= 299

    def error_text(self) -> str:
        """What the answer says of its failure; its body is read and its connection given back."""
        message = error_message(self.response.error_document(), self._sent)
        self.response.close()
        text = status_text(self.call.place, self.response.status)
        return f"{text}: {message}" if message else text

    def discard(self) -> None:
        """Read a short body, so that the connection can be used again, and give it back."""
        self.response.error_document()
        self.response.close()


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def _bare_session(session: requests.Session) -> requests.Session:
    """A session for other origins: the same proxies and trust in certificates, and no credentials."""
    bare = requests.Session()
    bare.trust_env = session.trust_env
    bare.proxies = session.proxies
    bare.verify = session.verify
    bare.auth = NoAuth()
    bare.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return bare


def _fits_header(value: str | bytes) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return not any(letter in "\r\n\0" or ord(letter) > 0xFF for letter in text) and text == text.lstrip()


def _headers_lost(call: Call, response: requests.Response) -> PagingError | None:
    """Python reads no header after a line that is none: it misses a length, an encoding or a next link."""
    message = getattr(getattr(response.raw, "_original_response", None), "msg", None)
    if message is None:
        return None
    try:
        assert_header_parsing(message)
    except HeaderParsingError:
        response.close()
        return ConnectionFailed(
            f"{call.place} answered with a header line that cannot be read, which hides those after it",
            transient=False,
        )
    return None


def _certificate_refused(error: BaseException) -> bool:
    seen: list[Any] = [error]
    for item in seen:
        if isinstance(item, BaseException) and len(seen) < 100:
            seen += [*item.args, getattr(item, "reason", None)]
    return any(isinstance(item, ssl.SSLCertVerificationError) for item in seen)
