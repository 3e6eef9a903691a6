"""HTTPS with patience: deadlines, bounded retries, redirects to HTTPS only, no cookies or passwords."""

from __future__ import annotations

import email.utils
import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NoReturn, TypeVar

from ranvier.errors import SettingsError
from ranvier.provenance import own_version

API = "https://api.dandiarchive.org/api"

_HERE = ("localhost", "127.0.0.1", "::1")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_MOST_JSON = 64 << 20
_MOST_REDIRECTS = 5
_TAKEN_ALONG = ("User-agent", "Accept", "Accept-encoding", "Range")
_T = TypeVar("_T")


@dataclass(frozen=True)
class WebSettings:
    """How to talk to the archive.

    Attributes
    ----------
    api
        Where its API begins. HTTPS; plain HTTP is taken for this machine only.
    timeout_s
        Longest silence of a connection.
    attempts
        How often each request and each file is tried.
    backoff_s
        Pause after the first failure; each further one is twice as long.
    longest_wait_s
        No pause is longer, whatever the server asks for with ``Retry-After``.
    """

    api: str = API
    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.timeout_s <= 0 or self.backoff_s < 0:
            raise SettingsError("attempts, timeout and pause cannot be so", seen=self)


class FinalError(Exception):
    """It failed and would fail again; ``code`` is the HTTP status, if there was one."""

    def __init__(self, text: str, *, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class PassingError(Exception):
    """It failed and may succeed later; ``wait_s`` is the pause that the server asks for."""

    def __init__(self, text: str, *, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class Web:
    """Requests to one archive and to where it redirects.

    Parameters
    ----------
    settings
        How patient to be, and which archive.
    sleep, now
        The clock, replaced in tests: waits some seconds; seconds since 1970.
    """

    def __init__(
        self,
        settings: WebSettings | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or WebSettings()
        self._sleep, self._now = sleep, now
        self._name = f"ranvier/{own_version()}"
        base = urllib.parse.urlsplit(self.settings.api)
        self._local = base.scheme == "http" and base.hostname in _HERE
        why = self.why_not(self.settings.api)
        if why is not None:
            raise SettingsError(why, where="api", seen=self.settings.api)
        self._opener = urllib.request.build_opener(_Redirects(self.why_not))

    def why_not(self, url: str) -> str | None:
        """Say why an address may not be asked, or None if it may."""
        try:
            parts = urllib.parse.urlsplit(url)
            host = parts.hostname
        except ValueError:
            return "an address that makes no sense"
        if not host or "@" in parts.netloc:
            return "an address without a host or with a password"
        if parts.scheme == "https" or (self._local and parts.scheme == "http" and host in _HERE):
            return None
        return "an address that is not HTTPS"

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> IO[bytes]:
        """Begin to receive what is at an address; the caller closes it.

        Raises
        ------
        FinalError, PassingError
            It cannot be had, or not now.
        """
        why = self.why_not(url)
        if why is not None:
            raise FinalError(f"{why}: {url}")
        sent = {
            "User-Agent": self._name,
            "Accept-Encoding": "identity",
            **(headers or {}),
        }
        try:
            request = urllib.request.Request(url, headers=sent)
            opened: IO[bytes] = self._opener.open(request, timeout=self.settings.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                self._refuse(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise as_failure(error) from error
        return opened

    def _refuse(self, error: urllib.error.HTTPError) -> NoReturn:
        text = " ".join(f"the server answered {error.code} {error.reason}".split())
        if error.code not in _PASSING:
            raise FinalError(text, code=error.code) from None
        raise PassingError(text, wait_s=self._asked(error.headers.get("Retry-After"))) from None

    def _asked(self, text: str | None) -> float | None:
        """Seconds that ``Retry-After`` asks for: a number or a date (RFC 9110, 10.2.3)."""
        if text is None:
            return None
        if text.strip().isdecimal():
            return float(min(int(text.strip()[:9]), 10**9))
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - self._now())
        except (ValueError, TypeError, OverflowError):
            return None

    def retry(self, attempt: Callable[[], _T]) -> _T:
        """Call until it succeeds, fails for good or has been tried often enough.

        Raises
        ------
        FinalError
            It failed for good; says how often it was tried.
        """
        most = self.settings.attempts
        for n in range(most):
            try:
                return attempt()
            except PassingError as error:
                if n + 1 == most:
                    raise FinalError(f"{error}; given up after {most} attempt(s)") from error
                asked = error.wait_s or 0.0
                pause = max(asked, self.settings.backoff_s * 2**n)
                self._sleep(min(pause, self.settings.longest_wait_s))
        raise FinalError("not tried")  # cannot be: there is at least one attempt

    def json(self, url: str) -> Any:
        """Receive JSON.

        Raises
        ------
        FinalError
            It cannot be had, is too large or is no JSON.
        """

        def attempt() -> Any:
            with self.open(url, {"Accept": "application/json"}) as response:
                try:
                    body = response.read(_MOST_JSON + 1)
                except (OSError, http.client.HTTPException) as error:
                    raise as_failure(error) from error
            if len(body) > _MOST_JSON:
                raise FinalError("an answer that is far too large")
            try:
                return json.loads(body)
            except (ValueError, RecursionError) as error:
                raise PassingError("an answer that is no JSON, or not whole") from error

        return self.retry(attempt)


def as_failure(error: Exception) -> FinalError | PassingError:
    """Tell apart what a connection's error is: passing, unless the certificate is wrong."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, ValueError):
        return FinalError(f"no connection: {reason}")
    if isinstance(reason, TimeoutError):
        return PassingError("the connection fell silent")
    return PassingError(f"the connection failed: {reason or type(error).__name__}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows only to addresses that may be asked, and takes along nothing but what is named here."""

    max_redirections = _MOST_REDIRECTS

    def __init__(self, why_not: Callable[[str], str | None]) -> None:
        self._why_not = why_not

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        why = self._why_not(newurl)
        if why is not None:
            fp.close()
            raise FinalError(f"the server redirects to {why}")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.headers = {k: v for k, v in following.headers.items() if k in _TAKEN_ALONG}
        return following
