"""Arguments that cannot be meant are refused by name."""

from __future__ import annotations

import pytest

from chunkwise.core.choices import check_number
from chunkwise.core.errors import ConfigError


@pytest.mark.parametrize("value", [1, 5, 9])
def test_a_number_within_its_bounds_is_taken(value: int) -> None:
    check_number("n", value, 1, 9)
    check_number("n", value, 1)
    check_number("n", value + 0.5, 1, whole=False)


@pytest.mark.parametrize("value", [0, 10, 1.5, "5", None, True, float("nan"), [5]], ids=str)
def test_what_is_no_number_or_out_of_bounds_is_refused_by_name(value: object) -> None:
    with pytest.raises(
        ConfigError, match=r"^n is .*: it must be a whole number from 1 to 9, because$"
    ) as refused:
        check_number("n", value, 1, 9, why=", because")
    assert refused.value.parameters == ("n",)
