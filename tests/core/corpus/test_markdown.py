import pytest

from core.corpus.markdown import neutralize_markdown

JOINER = "\u2060"


@pytest.mark.parametrize(
    "text",
    [
        "![logo](https://example.org/x.png)",
        "\\\\![logo](https://example.org/x.png)",
        "[![badge][b]](https://example.org)\n\n[b]: https://example.org/b.svg",
        "<div>\n```\n</div>\n\n![logo](https://example.org/x.png)\n",
        "`\n\n![logo](https://example.org/x.png)\n\n`",
        "```a`b\n![logo](https://example.org/x.png)",
    ],
)
def test_no_image_is_left_that_would_be_fetched(text: str) -> None:
    assert "![" not in neutralize_markdown(text)


def test_an_image_is_a_link_and_code_looks_as_it_did() -> None:
    assert neutralize_markdown("![logo](x.png)") == f"!{JOINER}[logo](x.png)"
    assert neutralize_markdown("`vec![1]`").replace(JOINER, "") == "`vec![1]`"


def test_dollars_and_colors_of_the_text_are_shown_and_those_in_code_stay() -> None:
    text = "Costs $5 to $6, :red[x] :smile: at 10:30:00.\n\n```sh\necho $HOME :red[x]\n```\n\nand `$PATH`, \\$7"
    assert neutralize_markdown(text) == (
        f"Costs \\$5 to \\$6, \\:{JOINER}red[x] \\:{JOINER}smile: at 10:30:00.\n\n"
        "```sh\necho $HOME :red[x]\n```\n\nand `$PATH`, \\$7"
    )


def test_a_fence_that_is_never_closed_lasts_to_the_end() -> None:
    assert neutralize_markdown("a $\n~~~\n$ b\n```\n$ c") == "a \\$\n~~~\n$ b\n```\n$ c"


def test_text_without_markup_stays_as_it_is() -> None:
    text = "# Mbuf\n\n- a\n- [link](https://example.org/a:b)\n\n| a | b |\n| --- | --- |\n"
    assert neutralize_markdown(text) == text
