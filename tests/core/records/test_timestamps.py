"""Dates and timestamps of every form become one form, exactly, or fail."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, TransformFailed
from chunkwise.core.records.transforms import AlignTimestamps, compile_transforms

moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
fractions = st.text("0123456789", max_size=12)


def align(value, *inputs, **how):
    """What becomes of a JSON value (a string if it is a ``str``)."""
    record = json.dumps({"x": value}) if isinstance(value, str) else '{"x":' + str(value) + "}"
    made = compile_transforms([AlignTimestamps(fields=["x"], inputs=inputs or ("iso",), **how)])
    out = made(record.encode())
    return json.loads(out)["x"]


def refused(value, *inputs, match, **how):
    with pytest.raises(TransformFailed, match=match):
        align(value, *inputs, **how)


def utc(moment, fraction=""):
    """The form that is wanted, by strftime's own rules and with digits as text."""
    moment = moment.astimezone(UTC)
    day = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    return f"{day}T{moment.hour:02}:{moment.minute:02}:{moment.second:02}.{fraction.ljust(6, '0')}Z"


# --- ISO 8601 -----------------------------------------------------------------------------------------------


@given(moments, offsets, fractions, st.sampled_from("Tt "), st.sampled_from(".,"), st.integers(0, 2))
def test_iso_with_an_offset(moment, offset, fraction, separator, point, style):
    local = moment.astimezone(offset).replace(microsecond=0, tzinfo=None)
    minutes = int(offset.utcoffset(None).total_seconds()) // 60
    sign, size = ("-", -minutes) if minutes < 0 else ("+", minutes)
    zone = [f"{sign}{size // 60:02}:{size % 60:02}", f"{sign}{size // 60:02}{size % 60:02}"][style % 2]
    if minutes == 0 and style == 2:
        zone = "Z"
    text = local.isoformat(sep=separator) + (point + fraction if fraction else "") + zone
    assert align(text) == utc(moment.replace(microsecond=0), fraction)


@given(st.dates())
def test_a_date_is_its_midnight_and_stays_that_day(day):
    assert align(day.isoformat()) == f"{day.isoformat()}T00:00:00.000000Z"
    assert align(day.isoformat(), to="date") == day.isoformat()
    assert align(day.isoformat(), to="date", assume_tz="Asia/Tokyo") == day.isoformat()
    assert align(day.strftime("%Y%m%d").zfill(8), "iso_basic", to="date") == day.isoformat()


@given(moments, fractions)
def test_what_was_aligned_stays(moment, fraction):
    text = utc(moment, fraction)
    assert align(text) == text
    assert align(text, to="date") == text[:10]


@pytest.mark.parametrize(
    ("text", "form", "wanted"),
    [
        ("2023-12-21T10:11:12.123456789Z", "iso", "2023-12-21T10:11:12.123456789Z"),
        ("2023-12-21T10:11:12.1Z", "iso", "2023-12-21T10:11:12.100000Z"),
        ("2023-12-21T10:11Z", "iso", "2023-12-21T10:11:00.000000Z"),
        ("2023-12-21 10:11:12 +0200", "iso", "2023-12-21T08:11:12.000000Z"),
        ("2023-12-21T10:11:12+02", "iso", "2023-12-21T08:11:12.000000Z"),
        ("2023-12-21T10:11:12z", "iso", "2023-12-21T10:11:12.000000Z"),
        ("2023-12-31T23:30:00-01:00", "iso", "2024-01-01T00:30:00.000000Z"),
        ("1883-11-18T12:00:00-00:00:36", "iso", "1883-11-18T12:00:36.000000Z"),
        ("20231221T101112Z", "iso_basic", "2023-12-21T10:11:12.000000Z"),
        ("20231221T101112.25+0200", "iso_basic", "2023-12-21T08:11:12.250000Z"),
        ("20231221T1011", "iso_basic", "2023-12-21T10:11:00.000000Z"),
    ],
)
def test_iso_forms(text, form, wanted):
    assert align(text, form) == wanted


@pytest.mark.parametrize(
    "text",
    [
        *("", "2023", "2023-12", "2023-13-01", "2023-02-29", "2023-12-21T", "2023-12-21T10", "21.12.2023"),
        *(
            "2023-12-21T24:00:00Z",
            "2023-12-21T23:59:60Z",
            "2023-12-21T10:11:12.Z",
            "2023-12-21T10:11:12+24:00",
        ),
        *("2023-12-21T10:11:12+02:60", " 2023-12-21", "2023-12-21\n", "2023-1-2", "20231221", "0000-01-01"),
        *("\u0662\u0660\u0662\u0663-12-21", "2023-12-21T10:11:12 UTC", "12023-12-21", "now", "2023-W51-4"),
    ],
)
def test_what_is_no_iso_form_is_refused(text):
    refused(text, match="is of none of the forms iso")


@pytest.mark.parametrize("value", ["1703153472", "1.5", "true", "{}", "[]"])
def test_a_number_needs_a_unit(value):
    refused(Raw(value), match=r"is of none of the forms|is no date")


class Raw:
    """JSON text that is put into the record as it is."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


# --- zones --------------------------------------------------------------------------------------------------


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
)
def test_a_local_time_is_of_the_assumed_zone_or_fails_where_that_is_not_certain(local, name):
    local = local.replace(microsecond=0)
    zone = ZoneInfo(name)

    both = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    real = [moment for moment in both if moment.astimezone(zone).replace(tzinfo=None) == local]
    text = local.isoformat()
    if len(real) == 1 and len(both) == 1:
        assert align(text, assume_tz=name) == utc(real[0])
        assert align(text, assume_tz=name, to="date") == utc(real[0])[:10]
    else:
        refused(text, assume_tz=name, match="twice or never")


@pytest.mark.parametrize("text", ["2023-03-26T02:30:00", "2023-10-29T02:30:00"])
def test_the_hours_of_a_clock_change_are_not_guessed(text):
    refused(text, assume_tz="Europe/Berlin", match="assume_tz has twice or never")
    assert align(text + "+01:00", assume_tz="Europe/Berlin").endswith("T01:30:00.000000Z")


def test_without_an_assumed_zone_an_offset_must_be_there():
    refused("2023-12-21T10:11:12", assume_tz=None, match="no offset from UTC, and assume_tz is None")
    assert align("2023-12-21T10:11:12Z", assume_tz=None) == "2023-12-21T10:11:12.000000Z"
    assert align("2023-12-21", to="date", assume_tz=None) == "2023-12-21"


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_outside_of_the_calendar_fails(text):
    refused(text, match="outside of the years")


# --- epochs -------------------------------------------------------------------------------------------------


@given(moments, fractions, st.sampled_from(["epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]), st.booleans())
def test_epochs_keep_every_digit(moment, fraction, unit, as_text):
    moment = moment.replace(microsecond=0)
    places = {"epoch_s": 0, "epoch_ms": 3, "epoch_us": 6, "epoch_ns": 9}[unit]
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    digits = fraction.ljust(places, "0")
    size = abs(seconds)
    if seconds < 0 and digits.strip("0"):
        # one whole second less, and the rest of it
        size -= 1
        digits = str(10 ** len(digits) - int(digits)).zfill(len(digits))
    text = ("-" if seconds < 0 else "") + f"{size}{digits[:places]}".lstrip("0").rjust(1, "0")
    text += "." + digits[places:] if digits[places:] else ""
    value = text if as_text else Raw(text)
    assert align(value, unit) == utc(moment, fraction.ljust(places, "0"))


@pytest.mark.parametrize(
    ("value", "unit", "wanted"),
    [
        ("0", "epoch_s", "1970-01-01T00:00:00.000000Z"),
        ("-0.5", "epoch_s", "1969-12-31T23:59:59.500000Z"),
        ("1703153472123", "epoch_ms", "2023-12-21T10:11:12.123000Z"),
        ("1703153472123456789", "epoch_ns", "2023-12-21T10:11:12.123456789Z"),
        ("1.703153472e9", "epoch_s", "2023-12-21T10:11:12.000000Z"),
        ("170315347212E1", "epoch_ms", "2023-12-21T10:11:12.120000Z"),
        ("1703153472.123456789", "epoch_s", "2023-12-21T10:11:12.123456789Z"),
    ],
)
def test_epoch_forms(value, unit, wanted):
    assert align(Raw(value), unit) == wanted


@pytest.mark.parametrize(
    "value", ["1703153472123", "1e999999999", "1e20", "-1e12", "1" * 70, "9" * 400 + ".5"]
)
def test_a_number_that_is_no_time_of_its_unit_fails(value):
    refused(Raw(value), "epoch_s", match="is of none of the forms epoch_s")


# --- mail and HTTP ------------------------------------------------------------------------------------------


@given(moments.filter(lambda m: m.year >= 1900), offsets)
def test_mail_and_http_dates(moment, offset):
    moment = moment.replace(microsecond=0)
    assert align(format_datetime(moment, usegmt=True), "rfc2822") == utc(moment)
    assert align(format_datetime(moment.astimezone(offset)), "rfc2822") == utc(moment)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("21 Dec 2023 10:11 GMT", "2023-12-21T10:11:00.000000Z"),
        ("thu, 21 dec 2023 10:11:12 gmt", "2023-12-21T10:11:12.000000Z"),
        ("Thu, 21 Dec 2023 10:11:12 EST", "2023-12-21T15:11:12.000000Z"),
        ("Thu, 21 Dec 2023 10:11:12 PDT", "2023-12-21T17:11:12.000000Z"),
        ("Thu, 21 Dec 2023 10:11:12 -0000 (UTC)", "2023-12-21T10:11:12.000000Z"),
        ("Fri, 21 Dec 2023 10:11:12 GMT", None),
        ("Thu, 21 Dec 2023 10:11:12", None),
        ("Thu, 21 Dec 2023 10:11:12 CET", None),
        ("Thu, 21 Dec 23 10:11:12 GMT", None),
        ("Thursday, 21-Dec-23 10:11:12 GMT", None),
        ("Thu Dec 21 10:11:12 2023", None),
        ("Thu, 31 Feb 2023 10:11:12 GMT", None),
    ],
)
def test_mail_forms(text, wanted):
    if wanted is None:
        refused(text, "rfc2822", match="is of none of the forms rfc2822")
    else:
        assert align(text, "rfc2822") == wanted


# --- patterns -----------------------------------------------------------------------------------------------

PATTERNS = [
    "%d.%m.%Y %H:%M:%S",
    "%b %d, %Y %I:%M:%S %p",
    "%A, %d %B %Y %H-%M-%S",
    "%Y%m%d%H%M%S",
    "%Y/%j %H:%M:%S",
]


@given(moments.filter(lambda m: m.year >= 1000), st.sampled_from(PATTERNS))
def test_patterns_read_what_strftime_writes(moment, pattern):
    moment = moment.replace(microsecond=0)
    assert align(moment.strftime(pattern), pattern) == utc(moment)
    with_offset = moment.strftime(pattern) + " +0130"
    assert align(with_offset, pattern + " %z") == utc(moment - timedelta(minutes=90))


@pytest.mark.parametrize(
    ("text", "pattern", "wanted"),
    [
        ("Dec 21, 2023", "%b %d, %Y", "2023-12-21"),
        ("dec 1, 2023", "%b %d, %Y", "2023-12-01"),
        ("May  5, 2023", "%B %e, %Y", "2023-05-05"),
        ("1/2/2023", "%d/%m/%Y", "2023-02-01"),
        ("21.12.69", "%d.%m.%y", "1969-12-21"),
        ("21.12.68", "%d.%m.%y", "2068-12-21"),
        ("2023-366", "%Y-%j", None),
        ("2024-366", "%Y-%j", "2024-12-31"),
        ("2023-000", "%Y-%j", None),
        ("2023121", "%Y%m%d", None),
        ("Wed 21 Dec 2023", "%a %d %b %Y", None),
        ("31/02/2023", "%d/%m/%Y", None),
        ("2023-12-21 ", "%Y-%m-%d", None),
        ("2023+12", "%Y+%m", "config"),
        ("100% 2023-12-21", "100%% %Y-%m-%d", "2023-12-21"),
        ("(2023.12.21)", "(%Y.%m.%d)", "2023-12-21"),
        ("(2023x12.21)", "(%Y.%m.%d)", None),
        ("2023-12-21 10:11:12.123456789 UTC", "%Y-%m-%d %H:%M:%S.%f %Z", "2023-12-21"),
        ("12/21/2023 12:30 am", "%m/%d/%Y %I:%M %p", "2023-12-21"),
    ],
)
def test_pattern_forms(text, pattern, wanted):
    if wanted == "config":
        with pytest.raises(ConfigError, match="gives no date"):
            align(text, pattern)
    elif wanted is None:
        refused(text, pattern, match="is of none of the forms")
    else:
        assert align(text, pattern, to="date") == wanted


def test_noon_and_midnight_of_a_twelve_hour_clock():
    for text, hour in [("12:30 AM", "00"), ("12:30 PM", "12"), ("1:30 pm", "13"), ("11:30 am", "11")]:
        assert align(f"2023-12-21 {text}", "%Y-%m-%d %I:%M %p") == f"2023-12-21T{hour}:30:00.000000Z"


def test_nanoseconds_of_a_pattern_are_kept():
    text = "2023-12-21 10:11:12.123456789"
    assert align(text, "%Y-%m-%d %H:%M:%S.%f") == "2023-12-21T10:11:12.123456789Z"


@pytest.mark.parametrize(
    ("pattern", "match"),
    [
        ("%Q", "'%Q' in the pattern '%Q' is unknown"),
        ("%Y-%m-%", "'%' in the pattern"),
        ("%d.%m.", "gives no date"),
        ("%Y-%m-%d %Y", "twice"),
        ("%Y-%m-%d %I:%M", "contradicts itself"),
        ("%Y-%m-%d %H %p", "contradicts itself"),
        ("%Y-%m-%d %b", "contradicts itself"),
        ("%Y-%m-%d %M", "a part of a time, and no hour"),
        ("%s", "'%s' in the pattern '%s' is unknown"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_at_once(pattern, match):
    with pytest.raises(ConfigError, match=match):
        AlignTimestamps(fields=["x"], inputs=[pattern])


# --- several forms ------------------------------------------------------------------------------------------


@given(st.dates(date(2000, 1, 1), date(2030, 1, 1)))
def test_a_text_that_forms_read_differently_is_ambiguous(day):
    text = f"{day.day}/{day.month}/{day.year}"
    both = ("%d/%m/%Y", "%m/%d/%Y")
    if day.day <= 12 and day.day != day.month:
        refused(text, *both, to="date", match="is ambiguous")
    else:
        assert align(text, *both, to="date") == day.isoformat()


def test_an_api_with_several_forms():
    forms = ["iso", "rfc2822", "epoch_ms", "%b %d, %Y"]
    moment = "2023-12-21T10:11:12.000000Z"
    for value in [
        "2023-12-21T10:11:12Z",
        "Thu, 21 Dec 2023 10:11:12 GMT",
        "1703153472000",
        Raw("1703153472000"),
    ]:
        assert align(value, *forms) == moment
    assert align("Dec 21, 2023", *forms) == "2023-12-21T00:00:00.000000Z"
