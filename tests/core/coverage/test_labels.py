"""Names of topics in any script: whole words, no stop words, titles that are questions."""

import pytest

from core.coverage.labels import choose_title, find_keywords, make_title, titles_of
from core.coverage.languages import find_words, language_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("पासवर्ड कैसे बदलें", ["पासवर्ड", "कैसे", "बदलें"]),
        ("ดาวน์โหลดใบแจ้งหนี้", ["ดาวน์โหลด", "ใบ", "แจ้ง", "หนี้"]),
        ("如何取消我的合同", ["如何", "取消", "我", "的", "合同"]),
        ("パスワードを変更する", ["パスワード", "を", "変更", "する"]),
        ("log-in via C++ and it’s slow", ["log-in", "via", "C++", "and", "it’s", "slow"]),
    ],
)
def test_words_keep_their_marks_and_are_found_without_spaces(text: str, words: list[str]) -> None:
    assert find_words(text) == words


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("how do I reset my password", "en"),
        ("VPP 23.10", "en"),
        ("Wie kündige ich meinen Vertrag", "de"),
        ("¿Cómo puedo cambiar mi contraseña?", "es"),
        ("comment puis-je annuler mon contrat", "fr"),
        ("как сменить пароль", "ru"),
        ("パスワードを変更する", "ja"),
        ("如何取消合同", "zh"),
        ("बिल कहाँ मिलेगा", "hi"),
        ("", "en"),
    ],
)
def test_languages_are_told_by_script_and_stop_words(text: str, language: str) -> None:
    assert language_of(text) == language


def test_keywords_in_hindi_and_thai_are_words_of_the_questions() -> None:
    texts = ["पासवर्ड कैसे बदलें", "मेरा पासवर्ड भूल गया", "ดาวน์โหลดใบแจ้งหนี้", "ใบแจ้งหนี้อยู่ที่ไหน"]
    hindi, thai = find_keywords(texts, [0, 0, 1, 1], [1] * 4, 2)
    assert any("पासवर्ड" in keyword.split() for keyword in hindi)
    assert all(keyword in "".join(texts[2:]) for keyword in thai)
    assert "ใบแจ้งหนี้" in thai


def test_a_pattern_that_all_questions_share_is_no_keyword() -> None:
    subjects = ("dns", "dhcp", "nat", "vpn")
    texts = [f"how do I configure {subject} in the product {n}" for subject in subjects for n in ("for me", "today")]
    keywords = find_keywords(texts, [0, 0, 1, 1, 2, 2, 3, 3], [1] * 8, 4)
    assert keywords == tuple((subject,) for subject in subjects)


def test_a_title_is_one_line_of_text_cut_between_words() -> None:
    assert make_title("How do I\n <b>reset</b> my &quot;PIN&quot;?") == 'How do I reset my "PIN"?'
    long = make_title("why is " + "the payment still pending " * 10)
    assert len(long) <= 80
    assert long.endswith(" still…")


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello, please tell me: how do I set up NAT", "how do I set up NAT"),
        ("sorry, one more thing: why does NAT fail", "why does NAT fail"),
        ("NAT, DHCP: which one fails?", "NAT, DHCP: which one fails?"),
        ("Hello, ", "Hello,"),
        ("Thank you!", "Thank you!"),
    ],
)
def test_a_title_has_no_greeting(text: str, title: str) -> None:
    assert make_title(text) == title


def test_a_text_is_recognized_in_titles_of_earlier_releases_which_kept_greetings() -> None:
    assert titles_of("Hi, reset my PIN") == {"reset my PIN", "Hi, reset my PIN"}


def test_the_title_has_the_words_that_most_questions_have() -> None:
    candidates = ["can I get help with a top-up from my watch in Spain", "how do I top up"]
    texts = ["how do I top up", "top up my card", "why can I not top up", "top-up with my watch", "top up"]
    assert choose_title(candidates, ["top"], texts) == 1
    assert choose_title(candidates[::-1], ["top"], texts) == 0


def test_the_title_is_the_typical_question_that_says_what_the_keywords_say() -> None:
    assert choose_title(["it does not work", "my card does not work", "card"], ["card"]) == 1
    assert choose_title(["how do I pay", "how can I pay"], ["pay"]) == 0
