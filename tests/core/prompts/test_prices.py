"""Costs from token counts and a price table."""

import pytest

from core.config import PROJECT
from core.errors import InvalidInput
from core.prompts.prices import Price, compute_cost_usd, estimate_tokens, parse_prices

TABLE = PROJECT / "data" / "prices.yaml"


def test_the_cost_is_tokens_times_list_price():
    prices = parse_prices("models:\n  m: {input: 2.5, output: 10}\n")
    assert prices == {"m": Price("m", 2.5, 10.0)}
    assert compute_cost_usd(prices, "m", input_tokens=1_000_000, output_tokens=0) == 2.5
    assert compute_cost_usd(prices, "m", input_tokens=2_000, output_tokens=300) == pytest.approx(0.008)
    assert compute_cost_usd(prices, "m", input_tokens=0, output_tokens=0) == 0.0


def test_an_unknown_model_is_an_error_and_never_free():
    with pytest.raises(InvalidInput, match=r"'gpt-9' is not in the price table.*it has: m"):
        compute_cost_usd({"m": Price("m", 1.0, 1.0)}, "gpt-9", input_tokens=1, output_tokens=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: {m: {input: -1, output: 1}}", "model m, input: must be zero or more USD, not -1"),
        ("models: {m: {input: 1}}", "model m, output"),
        ("models: {m: {input: .inf, output: 1}}", "model m, input"),
        ("models: {m: {input: true, output: 1}}", "model m, input"),
        ("models: {m: 3}", "model m"),
        ("models: {}", "must contain `models:`"),
        ("- a", "must contain `models:`"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_table_is_told_by_model_and_field(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_prices(text)


def test_the_table_that_comes_along_prices_the_offline_answerer():
    prices = parse_prices(TABLE.read_text(encoding="utf-8"))
    assert compute_cost_usd(prices, "extractive-offline", input_tokens=1_000, output_tokens=100) > 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("ring", 1), ("A ring.", 3), ("hugepages", 2), ("2048", 2), ("rx_burst", 3), ("--in-memory", 5)],
)
def test_tokens_are_estimated_by_letters_digits_and_marks(text, tokens):
    assert estimate_tokens(text) == tokens
