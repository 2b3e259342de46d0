from core.embedding.chunks import Chunk, digest_chunks, split_markdown


def test_each_section_is_a_chunk_that_starts_with_its_headings():
    text = "# Mbuf\n\nA buffer.\n\n## Chains\n\nOne after another.\n\n### Limits\n\nNone.\n\n## Pools\n\nMany."
    assert [(c.section, c.text.splitlines()[-1]) for c in split_markdown("mbuf.md", text)] == [
        ("Mbuf", "A buffer."),
        ("Mbuf > Chains", "One after another."),
        ("Mbuf > Chains > Limits", "None."),
        ("Mbuf > Pools", "Many."),
    ]


def test_a_hash_in_a_code_block_is_no_heading():
    (chunk,) = split_markdown("a.md", "# Build\n\n```\n# not a heading\nmake\n```")
    assert chunk.section == "Build"
    assert "# not a heading" in chunk.text


def test_a_long_section_is_cut_between_paragraphs():
    paragraphs = [f"Paragraph {n} " + "x" * 400 for n in range(5)]
    chunks = split_markdown("a.md", "# Long\n\n" + "\n\n".join(paragraphs))
    assert [chunk.text.count("Paragraph") for chunk in chunks] == [2, 2, 1]
    assert all(chunk.text.startswith("Long\n") for chunk in chunks)


def test_a_page_without_text_has_no_chunks():
    assert split_markdown("a.md", "# Only a title\n\n\n") == ()


def test_a_paragraph_that_is_too_long_is_cut_between_lines_and_then_between_words():
    table = "\n".join(f"row {n} " + "x" * 300 for n in range(6))
    chunks = split_markdown("a.md", f"# Table\n\n{table}\n\n" + "word " * 400)
    assert all(len(chunk.text) <= 900 + len("Table\n") for chunk in chunks)
    joined = " ".join(chunk.text.removeprefix("Table\n") for chunk in chunks)
    assert joined.split() == f"{table} {'word ' * 400}".split()


def test_a_word_longer_than_a_chunk_is_cut_too():
    chunks = split_markdown("a.md", "y" * 2_000)
    assert [len(chunk.text) for chunk in chunks] == [900, 900, 200]


def test_the_digest_is_that_of_the_text_whatever_the_document():
    one, moved, other = Chunk("a.md", "", "text"), Chunk("b.md", "", "text"), Chunk("a.md", "", "text.")
    assert one.digest == moved.digest
    assert one.digest != other.digest


def test_two_lists_of_chunks_have_one_digest_if_they_hold_the_same_for_the_same_model():
    chunks = [Chunk("a.md", "", "one"), Chunk("b.md", "", "two")]
    digest = digest_chunks(chunks, model="m")
    assert digest_chunks(chunks[::-1], model="m") == digest
    assert digest_chunks(chunks, model="n") != digest
    assert digest_chunks(chunks[:1], model="m") != digest
