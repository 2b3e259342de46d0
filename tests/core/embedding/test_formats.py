import pytest

from core.embedding.formats import is_readable, split_document
from core.errors import InvalidInput

RST = b"""
Ring Library
============

.. Copyright of nobody

The ring is a *queue*, see :ref:`the mempool <mempool>` and :c:func:`rte_ring_create`.

.. _figure_ring:

.. figure:: ring.png

   A ring.

Water Marks
-----------

.. note::

   Marks are ``optional``.

.. versionadded:: 21.05
   :opt: x

   Marks came late.

.. code-block:: c

   # include <rte_ring.h>

- first
- second

+-------+-------+
| Field | Value |
+=======+=======+
| head  | 0     |
+-------+-------+

.. toctree::

   other_page

.. raw:: html

   <script>alert(1)</script>

.. include:: /etc/passwd
"""

HTML = b"""<html><head><title>T</title><style>p {}</style></head><body><nav>Menu</nav>
<h1>Ring  <em>library</em></h1><p>A <b>queue</b>.<br>Fixed size.</p><script>alert(1)</script>
<div><h2>Marks</h2>Loose text<ul><li>one</li><li>two</li></ul><pre>int  x;
  y;</pre></div><!-- secret --><h1>Next</h1><table><tr><td>a</td><td>b</td></tr></table></body></html>"""


def pdf_of(*pages: str) -> bytes:
    """A PDF of text pages, written by hand: objects, their offsets, and the trailer."""
    kids = " ".join(f"{3 + 2 * at} 0 R" for at in range(len(pages)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for at, text in enumerate(pages):
        shown = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * at} 0 R "
            f"/Resources << /Font << /F1 {font} >> >> >>"
        )
        objects.append(f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}trailer << /Size {size} /Root 1 0 R >>\n"
        f"startxref\n{len(body)}\n%%EOF\n"
    ).encode()


def texts(path, content):
    return {chunk.section: chunk.text for chunk in split_document(path, content)}


def test_restructured_text_is_cut_at_its_headings_with_roles_resolved():
    found = texts("ring.rst", RST)
    assert list(found) == ["Ring Library", "Ring Library > Water Marks"]
    assert found["Ring Library"] == "Ring Library\nThe ring is a queue, see the mempool and rte_ring_create.\n\nA ring."


def test_what_only_sphinx_knows_keeps_its_text_and_loses_its_markup():
    found = texts("ring.rst", RST)["Ring Library > Water Marks"]
    assert "Marks are optional." in found
    assert "Marks came late." in found
    assert "# include <rte_ring.h>" in found
    assert "first\nsecond" in found
    assert "Field | Value\nhead | 0" in found
    for gone in ("other_page", "script", "passwd", "root:", "versionadded", ":opt:", "Copyright"):
        assert gone not in found


def test_html_is_cut_at_its_headings_without_scripts_menus_and_comments():
    found = texts("ring.html", HTML)
    assert found == {
        "Ring library": "Ring library\nA queue.\nFixed size.",
        "Ring library > Marks": "Ring library > Marks\nLoose text\none\ntwo\n\nint  x;\n  y;",
        "Next": "Next\na\nb",
    }


def test_html_in_another_encoding_is_read_by_its_declaration():
    page = '<meta charset="iso-8859-1"><p>Gr\xf6\xdfe</p>'.encode("latin-1")
    assert [chunk.text for chunk in split_document("a.htm", page)] == ["Größe"]


def test_a_pdf_is_cut_by_pages():
    found = split_document("manual.pdf", pdf_of("The ring is a queue.", "Marks are optional."))
    assert [(chunk.section, chunk.text) for chunk in found] == [
        ("page 1", "The ring is a queue."),
        ("page 2", "Marks are optional."),
    ]


def test_plain_text_is_one_section_and_a_byte_order_mark_is_no_text():
    (chunk,) = split_document("notes.txt", b"\xef\xbb\xbfOne.\n\nTwo.")
    assert (chunk.section, chunk.text) == ("", "One.\n\nTwo.")


def test_markdown_goes_by_either_ending_in_any_case():
    assert split_document("a.MD", b"# A\n\ntext") == split_document("a.MD", b"# A\r\n\r\ntext")
    assert [chunk.text for chunk in split_document("a.markdown", b"# A\n\ntext")] == ["A\ntext"]


@pytest.mark.parametrize("path", ["empty.md", "empty.rst", "empty.txt", "empty.html"])
def test_a_document_without_text_has_no_chunks(path):
    assert split_document(path, b"") == ()
    assert is_readable(path)


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("logo.png", b"\x89PNG", "has no format that can be indexed"),
        ("LICENSE", b"text", "has no format that can be indexed"),
        ("a.md", b"caf\xe9", r"is not UTF-8 text \(byte 3\)"),
        ("a.txt", b"a\x00b", "is binary"),
        ("a.pdf", b"not a pdf", "cannot be read as pdf"),
        ("a.pdf", b"", "cannot be read as pdf"),
        ("scan.pdf", pdf_of("", ""), "images of text"),
        ("cut.pdf", pdf_of("text")[:200], "cannot be read as pdf"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(path, content, problem):
    with pytest.raises(InvalidInput, match=problem) as caught:
        split_document(path, content)
    assert caught.value.field == path
    assert "\n" not in str(caught.value)


def test_a_broken_page_of_restructured_text_still_gives_its_text():
    found = split_document(
        "a.rst", b"Title\n==\n\n.. table::\n\n  x\n\n*open\n\n====\nA B\n====\n1\n\nThe text stays.\n"
    )
    assert "The text stays." in " ".join(chunk.text for chunk in found)


def test_a_deeply_nested_page_is_an_answer_and_no_crash():
    page = b"<div>" * 20_000 + b"deep" + b"</div>" * 20_000
    try:
        found = [chunk.text for chunk in split_document("a.html", page)]
    except InvalidInput as error:
        found = [str(error).splitlines()[0]]
    assert len(found) == 1


def test_a_page_of_sphinx_that_only_lists_others_is_no_problem() -> None:
    found = split_document("index.rst", b"How to\n======\n\n.. toctree::\n   :maxdepth: 1\n\n   install\n   tune\n")
    assert all("toctree" not in chunk.text for chunk in found)
