import subprocess
import sys

import pytest

from quarterdeck.redaction import compose, redact
from tests.quarterdeck.redaction_held_out import list_first, list_second
from tests.quarterdeck.redaction_samples import list_plain, list_secrets

SECRET = "a8F5f167f44F4964e6c998dee827110c"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to bob@example.com please", "write to [e-mail] please"),
        ("Bob.O+tag%x@mail.example.co.uk, today", "[e-mail], today"),
        ("<mailto:ann_b-c@sub-domain.example.org>", "<mailto:[e-mail]>"),
        ("müller@exämple.de", "[e-mail]"),
        ("a@b.io and c@d.dev", "[e-mail] and [e-mail]"),
        ("login bob@example.com:hunter2", "login [e-mail]:hunter2"),
        ("call +49 30 901820", "call [phone]"),
        ("+1 (415) 555-2671", "[phone]"),
        ("+14155552671", "[phone]"),
        ("+44 (0)20 7946 0958 ext", "[phone] ext"),
        ("0049 30 901820", "[phone]"),
        ("from (415) 555-2671", "from [phone]"),
        ("415-555-2671", "[phone]"),
        ("415.555.2671.", "[phone]."),
        ("1-800-555-0199", "[phone]"),
        ("020 7946 0958", "[phone]"),
        ("0171/1234567", "[phone]"),
        ("(030) 901820", "[phone]"),
        ("01701234567", "[phone]"),
        ("06 12 34 56 78", "[phone]"),
        ("my number is 415 555 2671", "my number is [phone]"),
        ("phone: 4155552671", "phone: [phone]"),
        ("pay with 4111111111111111", "pay with [card]"),
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1111 exp 12/27", "[card] exp 12/27"),
        ("4111 1111 1111 1111 123", "[card] 123"),
        ("card 3782 822463 10005", "card [card]"),
        ("5555\u00a05555\u00a05555\u00a04444", "[card]"),
        ("6011000990139424", "[card]"),
        ("4222222222222", "[card]"),
        ("12 4111 1111 1111 1111", "12 [card]"),
        ("4111 1111 1111 1111 5555 5555 5555 4444", "[card] [card]"),
        ("sk-proj-abcdEFGH1234ijklMNOP5678", "[key]"),
        ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "[key]"),
        ("use ghp_16C7e42F292c6912E7710c838347Ae178B4a now", "use [key] now"),
        ("github_pat_11ABCDEFG0abcdefghijkl_mnop", "[key]"),
        ("glpat-abcdEFGH1234ijklMNOP", "[key]"),
        ("xoxb-123456789012-abcdefGHIJ", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "[key]"),
        ("hf_abcdefghijKLMNOP1234567890", "[key]"),
        (f"why is {JWT} refused", "why is [key] refused"),
        ("Authorization: Bearer abc123def456ghi789", "Authorization: Bearer [key]"),
        ("Basic dXNlcjpwYXNzd29yZDEy", "Basic [key]"),
        (f"key={SECRET}", "key=[key]"),
        (f"OPENAI_API_KEY: '{SECRET}'", "OPENAI_API_KEY: '[key]'"),
        (f"my token is {SECRET}", "my token is [key]"),
        (f'"token": "{SECRET.lower()}"', '"token": "[key]"'),
        ("api_key=k3j9x0q2m4z7w1v8", "api_key=[key]"),
        ("password=hunter2 fails", "password=[key] fails"),
        ("PWD:s3cr!t", "PWD:[key]"),
        ("postgresql://deck:hunter2@db.example.com/deck", "postgresql://deck:[key]@db.example.com/deck"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- ok", "[key] ok"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off", "[key]"),
    ],
)  # fmt: skip
def test_personal_data_and_secrets_are_replaced_by_their_kind(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "what is an mbuf",
        "",
        "upgrade from 21.11.2 to 23.11.1",
        "chrome 114.0.5735.199 crashes",
        "v1.2.3-rc.4+build.20240115",
        "numpy 2.4.6 on Python 3.11",
        "windows build 10.0.19045.3693",
        "ping 192.168.178.20 from 10.0.0.1",
        "bind 127.0.0.1:8501",
        "fe80::1ff:fe23:4567:890a",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "aa:bb:cc:dd:ee:ff",
        "0000:01:00.0 is not bound to vfio-pci",
        "dpdk-devbind --bind=vfio-pci 0000:3b:00.1 0000:3b:00.2",
        "error 0x80070057",
        "ORA-00942: table or view does not exist",
        "E1101 and CVE-2024-12345",
        "HTTP 404, 502 and 503",
        "RFC 2131",
        "ISO 8601-1:2019",
        "2026-03-01",
        "2026-03-01T12:30:00Z",
        "between 2024-01-15 2024-02-20 and 2024-03-01",
        "2026-03-01 12:30:00.123456",
        "20240115",
        "order 12345 is late",
        "order 1234567",
        "ORD-4111-1111-1111-1111",
        "ticket #004711",
        "4111 1111 1111 1112",  # Luhn's check fails
        "0000 0000 0000 0000",
        "timestamp 1700000000000 and 1700000000123456789",
        "time 1700000000",
        "git clone git@github.com:org/repo.git",
        "ssh root@localhost",
        "npm i left-pad@1.3.0 @scope/pkg",
        "commit 841ffe8a1b2c3d4e5f60718293a4b5c6d7e8f901",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "550e8400-e29b-41d4-a716-446655440000",
        "chmod 0755 0644 0600",
        "rte_mempool_create(8192, 256, 0)",
        "hugepages 1024 2048 512 256 128",
        "set --socket-mem 1024,1024 -l 0-3 -n 4",
        "sk-learn-pipelines-and-transformers",
        "bearer authentication-mechanisms",
        "basic authentication is refused",
        "token: invalid",
        "what is a token bucket",
        "key=value",
        "primary_key=customer_identifier",
        "foreign_key=orders_2024_partitions",
        "password: how do I reset it",
        "how is a password hashed",
        "password=$DB_PASSWORD",
        "password=<your password>",
        "15.5 % of 1,234,567 rows",
        "3.14159265358979",
        "-1.5e-10",
        "10 Gbit/s at 64 bytes: 14,880,952 packets",
        "https://example.com/a/b?page=2&size=100",
        "port 8080-8090",
        "+10 dB",
        "C++17 and C++20",
        "0.0.0.0/0",
        "16:9 at 1920x1080",
        "§ 4.2.1.3",
        "日本語 12345",
    ],
)
def test_ordinary_technical_text_stays_as_it_is(text):
    assert redact(text) == text


def test_of_labeled_samples_nearly_all_secrets_go_and_nearly_all_else_stays():
    secrets, plain = list(list_secrets(seed=0)), list(list_plain())
    missed = [sample for sample in secrets if sample.hidden in redact(sample.text)]
    taken = [sample for sample in plain if redact(sample.text) != sample.text]
    assert len(secrets) + len(plain) >= 300
    assert len(missed) <= 0.05 * len(secrets), missed
    assert len(taken) <= 0.02 * len(plain), taken
    kinds = {sample.kind for sample in secrets}
    assert [kind for kind in kinds if all(sample.kind != kind or sample in missed for sample in secrets)] == []


@pytest.mark.parametrize("listed", [list_first, list_second])
def test_of_samples_in_other_languages_and_habits_as_many(listed):
    samples = list(listed())
    secrets = [sample for sample in samples if sample.hidden]
    missed = [sample for sample in secrets if sample.hidden in redact(sample.text)]
    taken = [sample for sample in samples if not sample.hidden and redact(sample.text) != sample.text]
    assert len(samples) >= 300
    assert len(missed) <= 0.05 * len(secrets), missed
    assert len(taken) <= 0.02 * (len(samples) - len(secrets)), taken


def test_redacting_twice_changes_nothing_more():
    once = redact(f"bob@example.com, +49 30 901820, 4111 1111 1111 1111, token={SECRET}, password=hunter2")
    assert once == "[e-mail], [phone], [card], token=[key], password=[key]"
    assert redact(once) == once


@pytest.mark.deep
@pytest.mark.parametrize(
    "seed",
    [
        "a", "a@", "a.", "a@a.", "1", "4 ", "4-", "4111 1111 1111 1112 ", "+1", "+1 ", "0", "01 ", "00", "(", "( ",
        "sk-", "eyJ", "eyJaaaaa.", "bearer ", "key=", "password=", "key: ", "-----BEGIN PRIVATE KEY-----", "://a:", "_",
        "call ", "phone 2", "A1", "a-", "1.", "1-", "é", " ", "020 1", "SG.",
        "password ", "password is ", "pw: ", "cookie: ", "cookie: a=", "sess=", "-p ", "mysql ", "mysql -p", "DE89 ",
        "ssn ", "hasło ", "пароль: ", "net user ", "openssl ", "openssl -k ", "<password>", "LLM|1", "AQ.", "dp.pt.",
        "=>", "(02) ", "zadzwoń ",
        "aA1", "sk-.", "(", "tel 1", "pin ", "a [at] ", "1//", "my number is 4", "social security ",
    ],
)  # fmt: skip
@pytest.mark.slow
def test_no_text_of_100_kb_takes_longer_than_its_length_deserves(seed):
    script = f"from quarterdeck.redaction import redact; redact(({seed!r} * 100_000)[:100_000])"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)  # quadratic ones take hours


def test_redactors_of_ones_own_are_chained():
    def hide_names(text: str) -> str:
        return text.replace("Bob", "[name]")

    assert compose(redact, hide_names)("Bob, bob@example.com") == "[name], [e-mail]"
    assert compose()("Bob") == "Bob"
