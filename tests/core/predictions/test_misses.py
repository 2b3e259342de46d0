from core.predictions.misses import Miss, NearPassage, explain_misses


def near(question: str, document: str, text: str, score: float) -> NearPassage:
    return NearPassage(question, document, "Intro", text, score)


def test_a_document_misses_for_the_words_that_most_questions_hold_and_it_does_not():
    found = explain_misses(
        [
            near("how do I ping from the VPP CLI", "telemetry.rst", "A client pings the socket.", 0.41),
            near("VPP startup.conf example", "telemetry.rst", "An example of a client.", 0.44),
            near("VPP startup.conf example", "eal.rst", "Startup of the EAL; vpp and startup.conf examples.", 0.40),
        ]
    )
    assert found == (
        Miss("telemetry.rst", "Intro", 0.44, 2, ("VPP", "CLI", "startup.conf")),
        Miss("eal.rst", "Intro", 0.40, 1, ()),
    )
    assert found[0].reason == "says nothing of VPP, CLI, startup.conf"
    assert found[1].reason == "has the words, but is about something else"


def test_word_endings_and_section_titles_count_as_said():
    (miss,) = explain_misses([NearPassage("load plugins", "a.rst", "Loading a plugin", "As follows.", 0.5)])
    assert miss.lacks == ()


def test_five_documents_are_named_and_the_nearest_comes_first():
    found = explain_misses([near("q", f"{n}.rst", "", n / 10) for n in range(8)])
    assert [miss.document for miss in found] == [f"{n}.rst" for n in (7, 6, 5, 4, 3)]


def test_nothing_near_is_no_miss():
    assert explain_misses([]) == ()
