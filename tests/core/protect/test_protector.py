"""Who protects is said without a secret, checked at once, and made with the secret of the caller."""

import json
import traceback

import msgspec
import pytest

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.batching import ColumnValues, protect_columns
from chunkwise.core.protect.mapping import Mapping
from chunkwise.core.protect.protector import Limits, ProtectorSpec, build, check_operations
from tests.core.protect import own_protectors
from tests.core.protect.support import rule, task
from tests.support.secrets import SECRET, assert_hidden

KEY = SECRET * 3
OWN = "tests.core.protect.own_protectors"


def test_a_spec_goes_into_a_plan_and_comes_out_equal():
    spec = ProtectorSpec(name="hmac", options={"length": 20, "prefix": "t_"}, secret="tokens")
    data = msgspec.json.encode(spec)
    assert json.loads(data) == {
        "name": "hmac",
        "options": {"length": 20, "prefix": "t_"},
        "secret": "tokens",
    }
    assert msgspec.json.decode(data, type=ProtectorSpec) == spec


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"name": "hmca", "secret": "k"}, "no protector 'hmca'"),
        ({"name": ""}, "no protector ''"),
        ({"name": "."}, "no protector '.'"),
        ({"name": "hmac"}, "needs the name of a secret"),
        ({"name": "hmac", "secret": "k", "options": {"lenght": 20}}, "'hmac': .*unknown field `lenght`"),
        ({"name": "hmac", "secret": "k", "options": {"length": 15}}, r"length: .*>= 16"),
        ({"name": "hmac", "secret": "k", "options": {"length": 65}}, "length is 65: .*64"),
        (
            {"name": "hmac", "secret": "k", "options": {"encoding": "base64url", "length": 44}},
            "length is 44: .*43",
        ),
        (
            {"name": "hmac", "secret": "k", "options": {"encoding": "base32"}},
            "encoding is 'base32': choose",
        ),
        ({"name": "mask", "secret": "k"}, "'mask' has no secret"),
        ({"name": "mask", "options": {"character": "**"}}, r"character(:| is)"),
        ({"name": "mask", "options": {"keep_last": -1}}, r"keep_last(:| is)"),
        ({"name": "mask", "options": {"length": "other"}}, r"length(:| is)"),
        ({"name": "lambda"}, "required field `function`"),
        ({"name": "lambda", "options": {"function": "f", "max_payload_bytes": 6291457}}, "<= 6291456"),
        ({"name": "lambda", "options": {"function": "f", "max_batch_size": 0}}, r"max_batch_size(:| is)"),
        (
            {"name": "lambda", "options": {"function": "f", "envelope": "plain"}, "secret": "k"},
            "envelope 'plain'",
        ),
    ],
)
def test_a_wrong_spec_is_refused_when_it_is_made(spec, reason):
    with pytest.raises(ConfigError, match=reason):
        ProtectorSpec(**spec)


def test_a_wrong_spec_in_a_plan_is_refused_too():
    with pytest.raises(msgspec.ValidationError, match="no protector 'hmca'"):
        msgspec.json.decode(b'{"name":"hmca"}', type=ProtectorSpec)


@pytest.mark.parametrize("secrets", [{}, {"other": KEY}, {"tokens": ""}])
def test_a_missing_secret_is_named(secrets):
    with pytest.raises(ConfigError, match="'hmac' needs the secret 'tokens'"):
        build(ProtectorSpec(name="hmac", secret="tokens"), secrets)


def test_a_missing_client_is_named():
    with pytest.raises(ConfigError, match="needs a Lambda client"):
        build(ProtectorSpec(name="lambda", options={"function": "f"}), {})


def test_a_protector_is_made_with_its_options():
    hmac = build(ProtectorSpec(name="hmac", options={"length": 20}, secret="k"), {"k": KEY})
    assert [len(token) for token in hmac.protect(task(), ["a", "b"])] == [20, 20]
    mask = build(ProtectorSpec(name="mask", options={"keep_last": 1}), {})
    assert mask.protect(task(), ["abc"]) == ["**c"]


@pytest.mark.parametrize(
    "spec",
    [
        ProtectorSpec(name="hmac", secret="k"),
        ProtectorSpec(name="lambda", options={"function": "f"}, secret="k"),
        ProtectorSpec(name=f"{OWN}.Reverse", secret="k"),
    ],
)
def test_no_protector_shows_its_secret(spec):
    protector = build(spec, {"k": KEY}, lambda_client=object())
    assert KEY not in repr(spec)
    assert KEY not in msgspec.json.encode(spec).decode()
    assert KEY not in f"{protector!r} {protector}"


def test_what_cannot_be_undone_is_refused_before_anything_is_read():
    mapping = Mapping(columns={"a": rule(), "b": rule(operation="unprotect")})
    for spec in (ProtectorSpec(name="hmac", secret="k"), ProtectorSpec(name="mask")):
        with pytest.raises(ConfigError, match=f"'b' is to be unprotected, which protector '{spec.name}'"):
            check_operations(spec, mapping)
        check_operations(spec, Mapping(columns={"a": rule()}))
    check_operations(ProtectorSpec(name="lambda", options={"function": "f"}), mapping)
    check_operations(ProtectorSpec(name=f"{OWN}.Reverse"), mapping)


# --- a class of one's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"{OWN}.Reverse", f"{OWN}:Reverse"])
def test_a_class_of_ones_own_gets_options_and_secret(path):
    protector = build(ProtectorSpec(name=path, options={"mark": "#"}, secret="k"), {"k": KEY})
    assert protector.protect(task(), ["abc"]) == ["#cba"]
    assert (protector.parallel, protector.cache, protector.limits(task())) == (1, None, Limits())
    assert protector._own.secret == KEY


def test_a_class_of_ones_own_says_how_it_is_called():
    protector = build(ProtectorSpec(name=f"{OWN}.Careful"), {})
    for _ in range(2):
        found = protect_columns([ColumnValues(task=task(), values=["ab", "cd", "ef"])], protector)
        assert found == [["ba", "dc", "fe"]]
    assert protector.parallel == 3
    assert sorted(map(len, protector._own.calls)) == [1, 2]  # the second time out of its cache


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("no.such.module.Class", {}, "'no.such.module' cannot be imported"),
        (f"{OWN}.Missing", {}, "has no 'Missing'"),
        (f"{OWN}.protect", {}, r"not a class with a method protect\(task, values\)"),
        (f"{OWN}.Nothing", {}, "not a class with a method"),
        (f"{OWN}.OldStyle", {}, r"does not take \(task, values\)"),
        (f"{OWN}.Reverse", {"mrak": "#"}, "does not take these options: .*'mrak'"),
        (f"{OWN}.Broken", {}, "does not take these options: .*'secret'"),
        (f"{OWN}.Busy", {}, "parallel must be"),
        (f"{OWN}.Vague", {}, "local must be"),
        (f"{OWN}.Hoarder", {}, "cache must be"),
        ("subprocess.Popen", {"args": ["true"]}, "not a class with a method"),
    ],
)
def test_what_is_no_protector_is_refused(path, options, reason):
    with pytest.raises(ConfigError, match=reason):
        build(ProtectorSpec(name=path, options=options), {})
    assert own_protectors.Nothing.made == 0  # looked at, never called


def test_wrong_limits_are_refused():
    protector = build(ProtectorSpec(name=f"{OWN}.Confused"), {})
    with pytest.raises(ConfigError, match=r"limits\(\) must return Limits"):
        protect_columns([ColumnValues(task=task(), values=["a"])], protector)


def test_a_class_that_cannot_be_made_shows_no_secret(caplog):
    with pytest.raises(ConfigError, match="could not be made: it raised RuntimeError") as caught:
        build(ProtectorSpec(name=f"{OWN}.Broken", secret="k"), {"k": KEY})
    assert_hidden(caught.value, caplog, KEY, SECRET)
    assert KEY not in "".join(traceback.format_exception(caught.value))
