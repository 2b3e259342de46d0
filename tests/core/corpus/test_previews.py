import io

import pytest
from PIL import Image

from core.corpus.previews import PreviewKind, preview_file


def picture(*, size: tuple[int, int] = (4, 3), kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, "red").save(target, kind)
    return target.getvalue()


def test_markdown_is_shown_without_what_it_would_fetch() -> None:
    preview = preview_file("a/b.md", "# Füße\n\n![x](https://example.org/x.png)".encode())
    assert preview.kind is PreviewKind.MARKDOWN
    assert "![" not in preview.text
    assert preview.text.startswith("# Füße")


@pytest.mark.parametrize("name", ["a.txt", "a.rst", "a.html", "a.svg", "Makefile", "a.yaml"])
def test_other_text_is_shown_letter_by_letter(name: str) -> None:
    preview = preview_file(name, b"\xef\xbb\xbf<b>x</b> ![y](z)\n")
    assert (preview.kind, preview.text) == (PreviewKind.TEXT, "<b>x</b> ![y](z)\n")


def test_a_long_text_is_cut_and_says_so() -> None:
    preview = preview_file("a.txt", b"x" * 300_000)
    assert len(preview.text) == 200_000
    assert preview.note == "The first 200,000 of 300,000 characters; download the file for the rest."


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_picture_is_drawn_anew(kind: str) -> None:
    preview = preview_file(f"a.{kind.lower()}", picture(kind=kind))
    assert preview.kind is PreviewKind.PICTURE
    with Image.open(io.BytesIO(preview.content)) as shown:
        assert (shown.format, shown.size) == ("PNG", (4, 3))
    assert preview.note == "4 x 3 pixels"


@pytest.mark.deep
def test_a_large_picture_is_made_smaller_and_a_huge_one_is_not_opened() -> None:
    preview = preview_file("a.png", picture(size=(4_000, 1_000)))
    with Image.open(io.BytesIO(preview.content)) as shown:
        assert shown.size == (1_600, 400)
    bomb = preview_file("bomb.png", picture(size=(7_000, 7_000)))
    assert (bomb.kind, bomb.note) == (
        PreviewKind.NONE, "The picture has 7,000 x 7,000 pixels: too many to show.",
    )  # fmt: skip


def test_a_pdf_is_handed_on_as_it_is() -> None:
    assert preview_file("a.PDF", b"%PDF-1.7\n...").content == b"%PDF-1.7\n..."


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.pdf", b"MZ", "This is not a PDF"),
        ("a.png", b"not a picture", "cannot be read"),
        ("a.png", b"\x89PNG\r\n\x1a\n\xff\xfe", "cannot be read"),
        ("a.bin", b"\xff\xfe\x00", "neither UTF-8 text"),
        ("a.txt", b"a\x00b", "binary"),
    ],
)
def test_what_cannot_be_shown_says_why_in_one_line(name: str, content: bytes, why: str) -> None:
    preview = preview_file(name, content)
    assert (preview.kind, preview.text, preview.content) == (PreviewKind.NONE, "", b"")
    assert why in preview.note
    assert "\n" not in preview.note
