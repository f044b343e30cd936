"""Which objects somebody wants to hear of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import CREATED, REMOVED, ObjectCreated, ObjectEvent

#: folders that writers of tables and dispatches work in; what lies there is not data that has arrived
_STAGING: Final = re.compile(
    r"(?:^|/)(?:[^/]*\.dispatch|\.chunkwise|_chunkwise|_delta_log|_change_data|_spark_metadata|_temporary"
    r"|\.spark-staging[^/]*|\.hive-staging[^/]*)/"
)
#: names that Hadoop and Spark pass over, too; ``_day=3`` is a partition
_HIDDEN: Final = re.compile(r"(?:^|/)[_.][^/=]*(?:/|$)")
#: a folder of such a name, whatever follows it
_HIDDEN_FOLDER: Final = re.compile(r"(?:^|/)[_.][^/=]*/")
#: all letters of names of buckets, those of before 2018 included (S3 User Guide, "Bucket naming rules")
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]+")
#: S3 User Guide, "Event message structure" and "EventBridge event message structure"; ``Unknown``: an
#: event that does not say how the object was written
_EVENTS: Final = (
    *(f"{CREATED}{how}" for how in ("Put", "Post", "Copy", "CompleteMultipartUpload", "Unknown")),
    *(f"{family}{how}" for family in REMOVED for how in ("Delete", "DeleteMarkerCreated")),
)

Words = str | Sequence[str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFilter:
    """A test of object events; everything that is given must fit.

    Staging (``*.dispatch/``, ``.chunkwise/``, ``_chunkwise/``, ``_delta_log/``, ``_change_data/``,
    ``_spark_metadata/``, ``_temporary/``, ``.spark-staging*/``, ``.hive-staging*/``) and folder markers (keys
    that end with ``/``) never pass, so that a bucket with notifications does not trigger itself.

    :param bucket: name, or several of which one must fit.
    :param prefix: how the key begins, or several.
    :param suffix: how the key ends, or several.
    :param pattern: glob of the whole key: ``*`` and ``?`` do not cross a ``/``, ``**`` does,
        ``[abc]`` is one of these characters; e.g. ``"landing/**/*.csv"``.
    :param min_bytes: smallest size of an object that was written; a size that is not known passes.
    :param max_bytes: largest size, likewise.
    :param event_names: S3's names, ``*`` allowed, with or without ``s3:``; removals are
        ``"ObjectRemoved:*"`` and ``"LifecycleExpiration:*"``.
    :param ignore_hidden: refuse keys with a name in them that begins with ``_`` or ``.``, such as
        ``_SUCCESS``, except for partitions (``_day=3/``).
    :raises ConfigError: a parameter is of a wrong type, or no object can pass: one of the words of a list can
        never fit, too.
    """

    bucket: Words = None
    prefix: Words = None
    suffix: Words = None
    pattern: str | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    event_names: Words = ("ObjectCreated:*",)
    ignore_hidden: bool = False
    _glob: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Check what was given."""
        for name in ("bucket", "prefix", "suffix", "event_names"):
            _words(name, getattr(self, name))
        if self.pattern is not None:
            if not isinstance(self.pattern, str):
                raise ConfigError(f"pattern must be a text, not {type(self.pattern).__name__}").naming(
                    "pattern"
                )
            object.__setattr__(self, "_glob", _compiled(self.pattern))
        self._check_words()
        for name in ("min_bytes", "max_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ConfigError(f"{name} must be a number of bytes, not {value!r}").naming(name)
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ConfigError(
                f"min_bytes {self.min_bytes} is more than max_bytes {self.max_bytes}: no object can pass"
            ).naming("min_bytes", "max_bytes")

    def _check_words(self) -> None:
        """Refuse what can never fit: whoever deletes what does not pass would delete everything."""
        for bucket in _each(self.bucket):
            if not _BUCKET.fullmatch(bucket):
                raise ConfigError(f"bucket is {bucket!r}: it must be a name, such as 'my-lake'").naming(
                    "bucket"
                )
        for name in ("prefix", "suffix", "pattern"):
            for word in _each(getattr(self, name)):
                if why := self._never(name, word):
                    raise ConfigError(f"{name} is {word!r}: {why}").naming(name)
        for word in _each(self.event_names):
            if not any(fnmatchcase(event, word.removeprefix("s3:")) for event in _EVENTS):
                raise ConfigError(
                    f"event_names has {word!r}, which is no event of an object that was written or removed: "
                    f"it may have {', '.join(_EVENTS)}, and '*' in them"
                ).naming("event_names")

    def _never(self, name: str, word: str) -> str | None:
        """Why no key can fit; ``None``: one can."""
        if word.startswith("s3://"):
            return "it is a part of keys; give the bucket as bucket"
        if name != "prefix":
            if not word and name == "pattern":
                return "no key is empty; without one, every key fits"
            return "keys of folders never pass" if word.endswith("/") else None
        if _STAGING.search(word):
            return "staging never passes"
        hidden = self.ignore_hidden and _HIDDEN_FOLDER.search(word)
        return "ignore_hidden passes over such names" if hidden else None

    def passes(self, event: ObjectEvent) -> bool:
        """Whether somebody wants to hear of this event."""
        key = event.key
        return (
            not key.endswith("/")
            and _STAGING.search(key) is None
            and not (self.ignore_hidden and _HIDDEN.search(key))
            and _any(self.bucket, event.bucket.__eq__)
            and _any(self.prefix, key.startswith)
            and _any(self.suffix, key.endswith)
            and (self._glob is None or self._glob.fullmatch(key) is not None)
            and self._names(event.event)
            and (not isinstance(event, ObjectCreated) or self._sized(event.size))
        )

    def _names(self, name: str) -> bool:
        return _any(self.event_names, lambda wanted: fnmatchcase(name, wanted.removeprefix("s3:")))

    def _sized(self, size: int | None) -> bool:
        return size is None or (
            (self.min_bytes is None or size >= self.min_bytes)
            and (self.max_bytes is None or size <= self.max_bytes)
        )


def _words(name: str, value: Any) -> None:
    several = isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value)
    if value is not None and not isinstance(value, str) and not several:
        raise ConfigError(f"{name} must be a text or a list of texts").naming(name)


def _each(words: Words) -> Sequence[str]:
    return () if words is None else (words,) if isinstance(words, str) else words


def _any(wanted: Words, fits: Any) -> bool:
    """Whether one of the words fits; without words everything does."""
    if wanted is None:
        return True
    return bool(fits(wanted)) if isinstance(wanted, str) else any(fits(word) for word in wanted)


def _compiled(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression of whole keys."""
    found, at = [], 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            found.append("(?:.*/)?")  # no folder is one of the ways to fill it
            at += 3
        elif glob.startswith("**", at):
            found.append(".*")
            at += 2
        elif glob[at] == "*":
            found.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            found.append("[^/]")
            at += 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : end]
            negated = inner.startswith("!")
            letters = inner[negated:].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            found.append(f"[{'^/' if negated else ''}{letters}]")
            at = end + 1
        else:
            found.append(re.escape(glob[at]))
            at += 1
    try:
        return re.compile("".join(found), re.DOTALL)
    except re.error as error:
        raise ConfigError(f"pattern cannot be read: {error.msg}").naming("pattern") from None
