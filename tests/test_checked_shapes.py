"""Annotations hold on every call, also after a thousand that were right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from picolab.parts import rope
from picolab.parts.attention import split_heads
from picolab.parts.tap import listening

from checked_shapes import check

RIGHT = torch.zeros(2, 3), torch.zeros(3, 4)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize(
    "wrong",
    [
        (torch.zeros(2, 3), torch.zeros(4, 3)),
        (torch.zeros(2, 3), torch.zeros(3, 4).int()),
        (torch.zeros(2, 3), torch.zeros(1, 3, 4)),
        (torch.zeros(2, 3), [[0.0] * 4] * 3),
    ],
    ids=["axes that do not meet", "whole numbers", "an axis more", "no array"],
)
def test_wrong_arguments_are_refused_before_the_function_runs_however_often_others_were_right(wrong, before):
    ran = []

    def noted(a: Float[Tensor, "rows inner"], b: Float[Tensor, "inner columns"]) -> None:
        ran.append(a)

    checked = check(noted)
    for _ in range(before):
        checked(*RIGHT)
    for _ in range(2):
        with pytest.raises(TypeCheckError, match="parameters"):
            checked(*wrong)
        with pytest.raises(TypeCheckError, match="parameters"):
            checked(wrong[0], b=wrong[1])
    assert len(ran) == before


def test_a_wrong_result_of_a_call_like_one_that_was_right_is_refused_and_the_function_has_run_once():
    results = [torch.zeros(2, 4), torch.zeros(2, 4), torch.zeros(4, 2), torch.zeros(2, 4), torch.zeros(2, 4).long()]

    def scripted(a: Float[Tensor, "rows inner"], b: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
        return results.pop(0)

    checked = check(scripted)
    for right in (True, True, False, True, False):
        if right:
            checked(*RIGHT)
        else:
            with pytest.raises(TypeCheckError, match="return value"):
                checked(*RIGHT)
    assert not results


def test_where_the_value_decides_every_call_is_looked_at():
    def first(kind: Literal["a", "b"]) -> Literal["a"]:
        return kind

    checked = check(first)
    assert checked("a") == "a"
    for wrong in ("b", "c"):
        with pytest.raises(TypeCheckError):
            checked(wrong)


def test_where_a_member_decides_every_call_is_looked_at():
    def first(numbers: list[int]) -> int:
        return 0

    def second(pair: tuple[int, list[str]]) -> int:
        return 0

    def third(number: int) -> list[int]:
        return results.pop(0)

    results = [[1], [2], ["3"]]
    for checked, right, wrong in (
        (check(first), [1], ["1"]),
        (check(second), (1, ["1"]), (1, [1])),
        (check(third), 1, 1),
    ):
        for _ in range(2):
            checked(right)
        with pytest.raises(TypeCheckError):
            checked(wrong)


def test_functions_of_equal_code_have_their_own_annotations():
    @dataclass
    class One:
        x: int

    @dataclass
    class Other:
        x: str

    check(One), check(Other)
    assert One(1).x == 1 and Other("1").x == "1"
    with pytest.raises(TypeCheckError):
        One("1")
    with pytest.raises(TypeCheckError):
        Other(1)


def test_a_function_made_anew_each_time_is_checked_and_is_itself():
    def made(number):
        def add(a: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            return a + number

        return check(add)

    assert [float(made(n)(torch.zeros(1))) for n in range(3)] == [0, 1, 2]
    with pytest.raises(TypeCheckError):
        made(3)(torch.zeros(1, 1))


def test_the_mathematics_is_checked():
    for _ in range(2):
        assert split_heads(torch.zeros(1, 2, 6), 3).shape == (1, 2, 3, 2)
        with pytest.raises(TypeCheckError):
            split_heads(torch.zeros(2, 6), 3)
    assert hasattr(rope.rotate, "__wrapped__") and hasattr(listening, "__wrapped__")
