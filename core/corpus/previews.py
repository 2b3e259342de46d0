"""Gateway to previews: what a page can show of a text, Markdown, picture or PDF file. Bytes in, one preview out.

Nothing in the file runs, and nothing outside of it is loaded.
"""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from core.corpus.markdown import neutralize_markdown

MOST_BYTES = 20_000_000
_MOST_CHARACTERS = 200_000
_MOST_PIXELS = 40_000_000
_SIDE = 1_600
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")


class PreviewKind(StrEnum):
    """How a file is shown; `none` if it cannot be shown."""

    MARKDOWN = "markdown"
    TEXT = "text"
    PICTURE = "picture"
    PDF = "pdf"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview: `text` of Markdown and text, `content` of an image (PNG) or a PDF.

    `note` says in one line what is missing, or why there is no preview.
    """

    kind: PreviewKind
    text: str = ""
    content: bytes = b""
    note: str = ""


def preview_file(path: str, content: bytes) -> Preview:
    """Return the preview of a file. Its format follows from the file extension, or the content if they disagree."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".pdf":
        return _preview_pdf(content)
    if suffix in PICTURES:
        return _preview_picture(content)
    return _preview_text(content, is_markdown=suffix in (".md", ".markdown"))


def _preview_pdf(content: bytes) -> Preview:
    if b"%PDF-" not in content[:1024]:
        return Preview(PreviewKind.NONE, note="This is not a PDF, despite its name. Download it to view it.")
    return Preview(PreviewKind.PDF, content=content)


def _preview_picture(content: bytes) -> Preview:
    """Redraw the picture, not larger than a screen, so that only pixels reach the browser."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            picture: Image.Image = Image.open(io.BytesIO(content))
        width, height = picture.size
        if width * height > _MOST_PIXELS:
            return Preview(PreviewKind.NONE, note=f"The picture has {width:,} x {height:,} pixels: too many to show.")
        picture = picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = str(error).splitlines()[:1] or [type(error).__name__]
        return Preview(PreviewKind.NONE, note=f"The picture cannot be read: {said[0]}.")
    picture.thumbnail((_SIDE, _SIDE))
    target = io.BytesIO()
    picture.save(target, "PNG")
    return Preview(PreviewKind.PICTURE, content=target.getvalue(), note=f"{width:,} x {height:,} pixels")


def _preview_text(content: bytes, *, is_markdown: bool) -> Preview:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Preview(PreviewKind.NONE, note="This is neither UTF-8 text, nor a picture or PDF: download it.")
    if "\x00" in text:
        return Preview(PreviewKind.NONE, note="This is binary, not text: download it.")
    note = ""
    if len(text) > _MOST_CHARACTERS:
        note = f"The first {_MOST_CHARACTERS:,} of {len(text):,} characters; download the file for the rest."
        text = text[:_MOST_CHARACTERS]
    if is_markdown:
        return Preview(PreviewKind.MARKDOWN, neutralize_markdown(text), note=note)
    return Preview(PreviewKind.TEXT, text, note=note)
