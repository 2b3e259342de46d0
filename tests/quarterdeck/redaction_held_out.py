# ruff: noqa: E501
"""Labeled samples that were written after the patterns, in other languages and habits than `redaction_samples.py`.

Each set was measured first, and the kinds that it missed were mended then: `docs/figures.md` has the figures from
before. `list_second` was written after the patterns were mended for `list_first`. Lines are a text, and after the last
bar what of it has to go; a line that ends in a bar has to stay.
"""

import random
import string
from collections.abc import Iterator

from tests.quarterdeck.redaction_samples import Sample, draw

UPPER = string.ascii_uppercase
HEX = "0123456789abcdef"


def make_iban(country: str, account: str, *, grouped: bool) -> str:
    """Return an account number with the right check digits."""
    digits = "".join(str(int(letter, 36)) for letter in f"{account}{country}00")
    plain = f"{country}{98 - int(digits) % 97:02d}{account}"
    return " ".join(plain[at : at + 4] for at in range(0, len(plain), 4)) if grouped else plain


def make_card(prefix: str, length: int, rng: random.Random, gap: str) -> str:
    """Return a card number that passes the Luhn check."""
    digits = prefix + "".join(rng.choice("0123456789") for _ in range(length - 1 - len(prefix)))
    doubled = [int(digit) * (2 if at % 2 == 0 else 1) for at, digit in enumerate(reversed(digits))]
    digits += str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)
    sizes = (4, 6, 5) if length == 15 else (4, 4, 4, 4, 3)
    parts, at = [], 0
    for size in sizes:
        parts.append(digits[at : at + size])
        at += size
    return gap.join(part for part in parts if part)


def list_first() -> Iterator[Sample]:
    """Return the samples of the first set: secrets, and what has to stay."""
    rng = random.Random(4_711)
    yield from _fill(
        "e-mail",
        FIRST_MAILS,
        ("meu e-mail é {}", "<{}>", "mailto:{}?subject=hi", "{}; cc to the team", "прошу ответить на {}"),
    )
    yield from _fill(
        "phone",
        FIRST_PHONES,
        ("mój numer to {}", "ligue para {}", "{} (evenings only)", "WhatsApp: {}", "telefon {} nie odpowiada"),
    )
    cards = [
        make_card(prefix, length, rng, gap)
        for prefix, length in (("4539", 16), ("5412", 16), ("3714", 15), ("6011", 16), ("2221", 16), ("3528", 16))
        for gap in ("", " ", "-")
    ]
    yield from _fill(
        "card", cards, ("karta {} odrzucona", "cartão {}", "carte n° {} refusée", "charged {} twice", "{} exp 04/29")
    )
    ibans = [
        make_iban(country, account, grouped=grouped) for country, account in FIRST_ACCOUNTS for grouped in (True, False)
    ]
    yield from _fill(
        "iban", ibans, ("przelew na {}", "pagar a {}", "{}, BIC follows", "virement vers {}.", "rekening {}")
    )
    yield from _fill(
        "ssn",
        (
            "318-22-7781",
            "602-14-9903",
            "144.555.666-07",
            "111.444.777-35",
            "JT 48 21 66 B",
            "PW123987A",
            "RSSMRA85T10A562S",
            "VRDGNN60A01F205X",
        ),
        ("SSN {} on file", "meu CPF {}", "NI number {}", "codice fiscale {}"),
    )
    yield from _fill("password", FIRST_PASSWORDS, FIRST_SAID)
    yield from _fill("cookie", [draw(rng, length) for length in (20, 26, 32, 40, 48)], FIRST_COOKIES, every=True)
    for pattern in FIRST_KEYS:
        value = _draw_key(pattern, rng)
        yield Sample(
            f"{rng.choice(('token', 'использую', 'clave', 'why 401 with', 'export X='))} {value}", "key", value
        )
    yield from _read(FIRST_TYPED)
    yield from _read(FIRST_PLAIN)
    yield from _fill(
        "version", FIRST_VERSIONS, ("po aktualizacji do {}", "{} broke it", "downgraded from {}"), stays=True
    )
    yield from _fill("order", FIRST_ORDERS, ("wo ist {}", "{} nie dotarło", "onde está {}?"), stays=True)


def _fill(
    kind: str,
    values: tuple[str, ...] | list[str],
    patterns: tuple[str, ...],
    *,
    every: bool = False,
    stays: bool = False,
) -> Iterator[Sample]:
    rounds = len(values) * len(patterns) if every else max(2 * len(values), len(patterns))
    for at in range(rounds):
        value = values[at % len(values)]
        yield Sample(patterns[(at + at // len(values)) % len(patterns)].format(value), kind, "" if stays else value)


def _draw_key(pattern: str, rng: random.Random) -> str:
    """Fill `{n}` with letters and digits, `{hn}` with hexadecimal ones, `{un}` with capitals and digits."""
    kinds = {"h": HEX, "u": UPPER + "234567", "d": "0123456789"}
    parts = pattern.split("{")
    value = parts[0]
    for part in parts[1:]:
        told, _, rest = part.partition("}")
        letters = kinds.get(told[0])
        value += (draw(rng, int(told[1:]), letters) if letters else draw(rng, int(told))) + rest
    return value


def _read(lines: str) -> Iterator[Sample]:
    for line in lines.strip().splitlines():
        text, _, hidden = line.rpartition("|")
        yield Sample(text, "typed" if hidden else "plain", hidden)


FIRST_MAILS = (
    "anna.kowalska@poczta.example.pl", "jürgen.groß@firma.example", "m.rossi+fatture@pec.example.it", "ops-team@k8s.internal.example.com",
    "tanaka_taro@example.co.jp", "иван@пример.рф", "a@b.example.org", "no.reply.1234@mail-out.example.net", "sales(at)example.com.br",
)  # fmt: skip
FIRST_PHONES = (
    "+48 601 234 567", "+48 22 123 45 67", "+351 912 345 678", "+90 532 123 45 67", "+31 6 12345678", "+46 70-123 45 67", "+47 412 34 567",
    "+358 40 1234567", "+45 20 12 34 56", "+32 470 12 34 56", "+36 20 123 4567", "+40 721 234 567", "+30 691 234 5678", "+82-10-1234-5678",
    "+62 812-3456-7890", "+66 81 234 5678", "+27 82 123 4567", "+234 803 123 4567", "+20 100 123 4567", "+54 9 11 1234-5678",
    "+56 9 1234 5678", "+65 9123 4567", "+852 9123 4567", "+64 21 123 4567", "+1 604-555-0182", "(604) 555-0182", "604.555.0182",
    "0048 601 234 567", "0532 123 45 67", "0049-171-1234567", "(02) 9876 5432", "040-123 45 67", "06-12345678", "010-1234-5678",
    "+43/664/1234567", "+41 (0)79 123 45 67",
)  # fmt: skip
FIRST_ACCOUNTS = (
    ("PT", "000201231234567890154"), ("SE", "50000000058398257466"), ("FI", "12345600000785"), ("DK", "00400440116243"), ("CZ", "08000000192000145399"),
    ("RO", "AAAA1B31007593840000"), ("TR", "0006100519786457841326"), ("IE", "AIBK93115212345678"), ("HU", "117730161111101800000000"),
    ("GR", "01101250000000012300695"), ("LU", "0019400644750000"), ("SA", "80000000608010167519"),
)  # fmt: skip
FIRST_PASSWORDS = (
    "Zima2024!", "kotek123", "Mein_Hund7", "q1w2e3r4", "Barcelona#10", "sekret99", "T3quila$unrise", "ninja4life", "9Lives!", "Fjord-2020!",
    "g0ldf1sh", "BlauerMond8", "s3nh4f0rt3", "xX_dark_99", "Pomidor1",
)  # fmt: skip
FIRST_SAID = (
    "pass={}", "PASSWORD={}", "DB_PASSWORD={}", "spring.datasource.password={}", "hasło: {}", "senha: {}", "şifre: {}", "wachtwoord: {}", "lösenord: {}", "contraseña: {}",
    "mot de passe : {}", "пароль: {}", "密码: {}", "password is \"{}\"", "old password {} new password", "tried the password {}, no luck", "mytool --password '{}' -v",
    "{{\"user\": \"bob\", \"password\": \"{}\"}}", "password = '{}'", "<password>{}</password>",
)  # fmt: skip
FIRST_COOKIES = (
    "Cookie: sid={}", "set-cookie: SESSION={}; Secure; SameSite=Lax", "ci_session={}", "_session_id={}", "wordpress_logged_in_session={}",
    "cookie: lang=pl; auth={}; theme=dark", "document.cookie → sessid={}", "session-token={}",
)  # fmt: skip
FIRST_KEYS = (
    "qd_{43}", "sk-{48}", "sk-svcacct-{80}", "sk-ant-api03-{93}", "sk-ant-admin01-{93}", "sk-or-v1-{h64}", "ghp_{36}", "gho_{36}", "ghu_{36}", "ghr_{76}",
    "github_pat_{22}_{59}", "glpat-{20}", "glrt-{20}", "gldt-{20}", "AKIA{u16}", "ASIA{u16}", "AIza{35}", "xoxb-{d12}-{d12}-{24}", "xoxp-{d12}-{d12}-{h32}",
    "xoxe.xoxp-1-{60}", "sk_live_{24}", "sk_test_{99}", "rk_test_{24}", "pk_live_{24}", "whsec_{32}", "SG.{22}.{43}", "hf_{34}", "npm_{36}", "pypi-AgEIcHlwaS5vcmc{70}",
    "dckr_pat_{27}", "dop_v1_{h64}", "dapi{h32}", "ATATT3xFfGF0{50}", "lin_api_{40}", "secret_{43}", "ntn_{46}", "glsa_{32}_{h8}", "figd_{40}", "gsk_{52}",
    "r8_{37}", "pcsk_{60}", "xai-{80}", "nvapi-{64}", "hvs.{90}", "hvb.{90}", "s.{24}", "tskey-auth-{12}-{32}", "fly_{40}", "FlyV1 fm2_{60}", "re_{32}",
    "phc_{43}", "phx_{43}", "lsv2_sk_{h32}_{h10}", "pplx-{48}", "sntrys_{70}", "dp.st.dev.{43}", "CFPAT-{43}", "EAAG{80}", "NRAK-{u27}", "PMAK-{h24}-{h34}",
    "AGE-SECRET-KEY-1{u58}", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ{60}.{86}", "{d9}:AA{33}", "key-{h32}", "SK{h32}", "AC{h32}", "jina_{60}", "tvly-{32}",
    "voyage pa-{43}", "csk-{48}", "tgp_v1_{43}", "LLM|{d15}|{27}", "AQ.{50}", "1//0{60}", "ya29.a0{100}", "sq0csp-{43}", "shpss_{h32}", "Bearer {40}", "Authorization: Basic {40}==",
)  # fmt: skip
FIRST_TYPED = r"""
moje hasło to Tajne123!|Tajne123!
minha senha é Segredo2024|Segredo2024
mein Passwort lautet: Sonne!99|Sonne!99
la contraseña es Gato1234|Gato1234
username=admin&password=letmein1&submit=1|letmein1
PGPASSWORD=s3cr3tpg psql -h db|s3cr3tpg
MYSQL_ROOT_PASSWORD: example77|example77
export OPENAI_API_KEY="f3b1a9c2d7e84f60b5a1c3d9e7f20846"|f3b1a9c2d7e8
client-secret: 8Q~xYzAbCdEfGhIjKlMnOpQrStUvWxYz12|xYzAbCdEf
postgresql://svc:Pa55w0rd@10.0.0.5:5432/app|Pa55w0rd
ftp://deploy:Xy77zz@ftp.example.org|Xy77zz
smtp://user%40example.com:geheim1@mail.example.org:587|geheim1
curl -u admin:hunter22 https://example.com|hunter22
sshpass -p 'Tr0ub4dor' ssh host|Tr0ub4dor
openssl enc -k S3cretPass9 -in x|S3cretPass9
net user bob P4ssw0rd! /add|P4ssw0rd!
my one-time code is 482913|482913
SMS code: 7741 did not work|7741
PIN 4821 is refused|4821
CVV 123 and it fails|123
my social security number is 455 21 8890|455 21 8890
ssn=455218890|455218890
-----BEGIN RSA PRIVATE KEY----- MIIEpAIBAAKCAQEA|MIIEpAIB
-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB|MHcCAQEEIB
zadzwoń: 601 234 567|601 234 567
call me on 020 8123 4567 tomorrow|8123 4567
My cell: 6045550182|6045550182
fax 0211 8765432|8765432
"""
FIRST_PLAIN = """
jak zresetować hasło|
esqueci minha senha|
Passwort vergessen, was nun?|
wachtwoord wijzigen lukt niet|
пароль не подходит|
password must match the regex ^[A-Z]{8,}$|
password length 12 to 64|
password manager integration|
password = input('password')|
passwords: rotate every 90 days|
the secret ingredient is patience|
secret santa list 2024|
session 12 of the workshop|
session_timeout=3600|
sessions=250 per node|
cookie-consent=true|
auth=none and tls=off|
token_count=16384 max_tokens=2048|
tokenizer cl100k_base versus o200k_base|
key=customer_id, value=2024-11-03|
pin memory with pin_memory=True|
pin 5432 in docker-compose|
the code 404 page|
access code of conduct|
error code 12345678 from the driver|
otp as in Erlang/OTP 26|
tan(0.785) is 1|
sms gateway 2.0|
phone number field is required|
call 3 functions in 2 threads|
mobile breakpoint 768|
cell 4 of the notebook|
ring buffer 4096 entries|
10.20.30.40:8443 refuses|
172.16.254.1/12 overlaps|
2001:db8:85a3::8a2e:370:7334|
3fa85f64-5717-4562-b3fc-2c963f66afa6|
d41d8cd98f00b204e9800998ecf8427e|
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855|
git checkout 5f2c9e1|
fix in a1b2c3d4e5f60718293a4b5c6d7e8f9012345678|
sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709|
2024-06-30T23:59:60.123456+02:00|
30.06.2024 23:59|
03/04/2025 or 04/03/2025|
from 01.02.2024 to 03.04.2025|
Q3 2024: 12.345.678,90 EUR|
1 234 567,89 zł|
R$ 1.234.567,89|
12'345'678 CHF|
₹12,34,56,789|
0.000001234567|
6.02214076e23|
-273.15 to 1000000000|
1048576 bytes = 1 MiB|
64-bit: 18446744073709551615|
lat 52.2296756 lon 21.0122287|
GPS 48°51'24"N 2°21'03"E|
ISO 8601, RFC 9110, PEP 8|
DIN 5008 and EN 13402-3|
HS code 8471.30.0100|
UN 1203, CAS 7732-18-5|
model GTX-1080-8G and RTX 4090 24GB|
MPN 12-345-6789|
PCI ID 10de:2684|
MAC 00-1B-44-11-3A-B7|
IMEI and IMSI explained|
ssn validation regex|
iban check digits explained|
visa requirements 2025|
card 2 of the wizard|
mastercard 3-D Secure 2.2|
git@gitlab.example.com:team/app.git|
see @types/node@20.11.5|
icon@3x.png is blurry|
user@ is missing a host|
@channel at 10:30|
a@b in the grammar|
x = y @ z in numpy|
https://example.org/t/12345678901/2|
s3://bucket/2024/06/30/part-00000.parquet|
/var/lib/docker/overlay2/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ|
C:\\\\Users\\\\bob\\\\AppData\\\\Local|
kubectl get pods -n kube-system -o wide|
pod web-7d9f8c6b5-x2x4z restarts|
job 20240630-235959-000123 failed|
trace 4bf92f3577b34da6a3ce929d0e0e4736|
span 00f067aa0ba902b7|
row 12345678 of 98765432|
offset 0x7ffd5e8a3b20|
ORA-12154, SQLSTATE 42P01|
MSB3644 and CS0246|
exit status 139 (SIGSEGV)|
bond 0 eth1 eth2|
CPU 0-3,8-11|
ratio 16:9, 21:9|
score 0.8731 vs 0.8642|
p95 = 250 ms, p99 = 1,200 ms|
bus 42 at 07:15|
§ 312 BGB|
第3章 第12节|
사용자 1234명|
"""
FIRST_VERSIONS = (
    "124.0.6367.201", "5.15.0-105-generic", "v2.0.0-beta.11+exp.sha.5114f85", "17.0.11+9-LTS", "3.12.0rc3", "23.1.7779620", "2024.2.1.7", "R2024a Update 3", "8.0.36-0ubuntu0.22.04.1",
    "1.21.4-20240115.143022", "build 19045.4412", "driver 31.0.15.5222", "4.18.0-513.24.1.el8_9.x86_64", "cu121-py310", "20.04.6 LTS", "firmware 7.10.13.20.04",
)  # fmt: skip
FIRST_ORDERS = (
    "zamówienie 0601234567", "pedido 912345678", "Bestellung 4000123456", "order no 0208123456", "PO-2024-0601-234567", "INV/2024/06/00123", "ticket ZD-912345", "Sendung 00340434161094022115",
    "tracking RR123456789PL", "SKU 601-234-567", "artikel 0171-2345", "serial C02XK1ABJG5H", "case #00601234", "batch 601234567", "EAN 5901234123457", "invoice 604.555.0182",
)  # fmt: skip


def list_second() -> Iterator[Sample]:
    """Return the samples of the second set."""
    rng = random.Random(815)
    yield from _fill(
        "e-mail",
        SECOND_MAILS,
        ("From: {}", "user={} action=login", "Can {} get access?", '"email":"{}"', "wyślij na {}, proszę"),
    )
    yield from _fill(
        "phone",
        SECOND_PHONES,
        (
            "tlf {}",
            "ring meg på {}",
            "caller id {}",
            "puh. {}",
            "contact={}",
            "my new number is {} since May",
            "{} / office",
        ),
    )
    cards = [
        make_card(prefix, length, rng, gap)
        for prefix, length in (("4916", 16), ("5355", 16), ("3782", 15), ("6504", 16), ("2720", 16), ("4000", 16))
        for gap in ("", " ", "-")
    ]
    yield from _fill(
        "card", cards, ("kort {} avvist", "pan={}", "Kreditkarte: {}", "refund to {} please", "tarjeta {} bloqueada")
    )
    ibans = [
        make_iban(country, account, grouped=grouped)
        for country, account in SECOND_ACCOUNTS
        for grouped in (True, False)
    ]
    yield from _fill(
        "iban", ibans, ("konto: {}", "send to {} today", "iban={}", "tili {} on väärä", "from {} to savings")
    )
    yield from _fill(
        "ssn",
        (
            "287-65-4320",
            "411-90-2277",
            "533-08-1146",
            "731.882.450-19",
            "CE 65 21 09 A",
            "HJ775310D",
            "BNCLSN72M41L219K",
        ),
        ("ssn is {}", "applicant {}", "NINO: {}", "taxpayer {} born 1980"),
    )
    yield from _fill("password", SECOND_PASSWORDS, SECOND_SAID)
    yield from _fill("cookie", [draw(rng, length) for length in (22, 28, 36, 44)], SECOND_COOKIES, every=True)
    for pattern in SECOND_KEYS:
        value = _draw_key(pattern, rng)
        yield Sample(
            f"{rng.choice(('rotate', 'leaked:', 'in CI we set TOKEN to', 'avain', 'klucz'))} {value}", "key", value
        )
    yield from _read(SECOND_TYPED)
    yield from _read(SECOND_PLAIN)
    yield from _fill("version", SECOND_VERSIONS, ("runs on {}", "since {} it hangs", "{} kaatuu"), stays=True)
    yield from _fill("order", SECOND_ORDERS, ("hvor er {}", "{} delayed", "please check {} again"), stays=True)


SECOND_MAILS = (
    "ola.nordmann@firma.example.no", "k.virtanen+test@example.fi", "dev.null@sub-1.example.io", "li_wei@mail.example.cn", "renée@café.example.fr",
    "x.y.z-99@example.technology", "hr[at]example[dot]org", "SVC-BACKUP@CORP.EXAMPLE.COM",
)  # fmt: skip
SECOND_PHONES = (
    "+47 22 12 34 56", "+372 5123 4567", "+371 21 234 567", "+370 612 34567", "+381 64 1234567", "+385 91 234 5678", "+386 41 234 567", "+421 905 123 456",
    "+359 88 123 4567", "+375 29 123-45-67", "+998 90 123 45 67", "+84 91 234 56 78", "+63 917 123 4567", "+60 12-345 6789", "+92 300 1234567", "+880 1712-345678",
    "+971 50 123 4567", "+966 55 123 4567", "+254 712 345678", "+57 300 1234567", "+51 987 654 321", "+506 8312 3456", "+1 (787) 555-0143", "+1.876.555.0110",
    "(312) 555-0171", "312-555-0171", "1 (888) 555-0123", "0047 22 12 34 56", "0171 2345678", "0151/23456789", "(040) 123456", "01 45 67 89 10", "07700 900457", "+44(0)161 496 0123",
)  # fmt: skip
SECOND_ACCOUNTS = (
    ("EE", "2200221020145685"), ("LV", "BANK0000435195001"), ("LT", "1000011101001000"), ("SI", "19100000123438"), ("SK", "12000000198742637541"), ("HR", "1001005863000160"),
    ("BG", "BNBG96611020345678"), ("MT", "MALT011000012345MTLCAST001S"), ("IS", "0159260076545510730339"), ("AE", "0331234567890123456"), ("GB", "BARC20038012345678"), ("DE", "500105175407324931"),
)  # fmt: skip
SECOND_PASSWORDS = (
    "Vinter2023!", "hemmelig7", "Kissa_2020", "p4ssw0rd!", "n0rdlys", "BergenErBest1", "!Qaz2wsx", "trustno1", "Tomat#55", "ab12CD34", "Morgenmuffel3", "l33tsp34k", "Rosebud-1941", "zaq1@WSX", "hest3r",
)  # fmt: skip
SECOND_SAID = (
    "password={}", "passord: {}", "salasana: {}", "heslo: {}", "parola: {}", "adgangskode: {}", "my passwd is {}", "pw={}", "login=root pass={}", "password: \"{}\",",
    "ADMIN_PASSWORD={}", "--password={}", "the pwd is {} since yesterday", "with password '{}' I get 401", "passphrase={}", "Passwort war {}", "root password {} rejected",
)  # fmt: skip
SECOND_COOKIES = (
    "cookie: SESSIONID={}", "Set-Cookie: auth_session={}; Max-Age=3600", "PHPSESSID={}; path=/", "X-CSRF-Token: {}", "JSESSIONID={}.node1", "Cookie: a=b; user_session={}", "sso_token={}", "session={}",
)  # fmt: skip
SECOND_KEYS = (
    "qd_{43}", "qd_{43}", "sk-proj-{120}", "sk-{48}", "sk-ant-api03-{95}", "ghp_{36}", "ghs_{36}", "github_pat_{22}_{59}", "glpat-{20}", "AKIA{u16}", "ASIA{u16}", "AIzaSy{33}", "GOCSPX-{28}",
    "xoxb-{d13}-{d13}-{24}", "xapp-1-{11}-{d13}-{h64}", "sk_live_{99}", "rk_live_{24}", "whsec_{32}", "SG.{22}.{43}", "hf_{34}", "npm_{36}", "pypi-AgENdGVzdC5weXBpLm9yZw{80}", "dckr_pat_{27}", "dop_v1_{h64}",
    "dapi{h32}", "ATATT3xFfGF0{80}", "lin_api_{40}", "ntn_{46}", "glsa_{32}_{h8}", "figd_{40}", "gsk_{52}", "r8_{37}", "pcsk_{70}", "xai-{80}", "nvapi-{64}", "hvs.{95}", "phc_{43}", "lsv2_pt_{h32}_{h10}",
    "pplx-{48}", "sntryu_{h64}", "dp.pt.{43}", "NRAK-{u27}", "eyJhbGciOiJFUzI1NiJ9.eyJ{80}.{86}", "{d10}:AA{33}", "key-{h32}", "AC{h32}", "shpat_{h32}", "sq0atp-{22}", "rzp_test_{24}", "sgp_{h40}", "glcbt-64_{20}",
    "rdme_{64}", "pul-{h40}", "tfp_{59}", "AKCp8{64}", "vercel_blob_rw_{16}_{30}", "sl.{130}", "b.AAAAAQ{60}", "Bearer {64}", "token {h40}", "cfut_{40}", "EAAB{90}",
)  # fmt: skip
SECOND_TYPED = r"""
jdbc:postgresql://db/app?user=app&password=Frosk77|Frosk77
kubectl create secret generic x --from-literal=password=Gulrot9|Gulrot9
docker login -u bob -p Sommerfugl5|Sommerfugl5
wget --password=Regnbue8 https://example.com|Regnbue8
{"username":"ola","password":"Tyttebær1"}|Tyttebær1
password => 'Multe2025'|Multe2025
API_SECRET='6f2b9c1d8e4a7f305b6c9d2e1f8a4b7c'|6f2b9c1d8e4a
apikey=Zp4Qx8Rt2Vw6Ys1Ua5Oc9Ie3|Zp4Qx8Rt2Vw6
token: "c3VwZXJzZWNyZXR0b2tlbjEyMzQ1Njc4"|c3VwZXJz
https://oauth2:7hTq2xKp@gitlab.example.com/x.git|7hTq2xKp
mssql://sa:Stork-44@sql.example.com/master|Stork-44
rediss://default:9xKq7@cache.example.com|9xKq7
my verification code is 739201 but it expired|739201
2FA code 118264 refused|118264
card ending soon, cvv: 447|447
PIN: 9073|9073
-----BEGIN PRIVATE KEY----- MIIEvQIBADANBgkq -----END PRIVATE KEY-----|MIIEvQIB
SSN: 411 90 2277|411 90 2277
social security no. 411-90-2277|411-90-2277
you can text me on 312 555 0171|555 0171
Telefon: 030 12345678|12345678
Handy 0160 1234567|1234567
tél. 06 98 76 54 32|98 76
call 888-555-0123 now|555-0123
"""
SECOND_PLAIN = """
hvordan endrer jeg passord|
unohdin salasanani|
zapomněl jsem heslo|
parola uitată|
passord må ha 12 tegn|
salasana: pakollinen kenttä|
password field stays empty|
the password prompt appears twice|
password-less login with passkeys|
password hash $2b$ is bcrypt|
secret sharing after Shamir|
pass through 3 filters|
passing 4 of 5 tests|
pwd prints the working directory|
session affinity for 30 minutes|
session_id column is NULL|
csrf protection is off|
cookie banner in Norwegian|
remember the milk|
auth: required|
api key header missing|
what is an api token|
token budget 8000 per request|
key: value pairs in YAML|
basic income is no auth|
bearer of bad news|
pin the version to 4.2|
pin 13 blinks|
code 0 means success|
code review 2024|
otp library for Elixir|
call me maybe|
call 911 in the US|
mobile app 12.3|
fax machines are old|
phone: any|
text me later|
cell A12 in sheet 2|
number of tokens: 4096|
numbers 1 2 3 4 5 6 7 8 9 10|
dial 112|
reach 2,000,000 users|
192.0.2.44 port 22|
198.51.100.0/24|
2001:db8::1|
00:1a:2b:3c:4d:5e|
0000:00:1f.3|
9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d|
6ba7b810-9dad-11d1-80b4-00c04fd430c8|
5d41402abc4b2a76b9719d911017c592|
commit 1b4f0e9851971998e732078544c96b36c3d01ced|
digest sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae|
2025-02-28 23:00:00 +0100|
28.02.2025 kl. 14.30|
2025/02/28-2025/03/31|
week 2025-W09-5|
0.12345678901234|
1.7976931348623157e308|
4294967296|
9223372036854775807|
12 345 678,90 kr|
1.234.567 Kč|
USD 12,345,678|
100 000 000 tokens|
59.913868, 10.752245|
RFC 7519, RFC 6749|
NS-EN 1838:2013|
ISO/IEC 9075-1:2023|
CAS 50-00-0|
article 17(1) GDPR|
§ 823 BGB|
CVE-2025-30066|
GHSA-mrrh-fwg8-r2c3|
KB5034441|
HRESULT 0x800F0922|
SQLSTATE 08006|
errno 111|
exit code 143|
java.lang.OutOfMemoryError: Java heap space|
File "app.py", line 1234567|
job_20250228_143000_0001|
pod api-6c9f5d8b7d-q8z2k|
trace id 0af7651916cd43dd8448eb211c80319c|
i-0abcd1234ef567890 is stopped|
arn:aws:s3:::bucket/key|
projects/123456789012/locations/europe-west4|
s3://logs/2025/02/28/000000_0|
/dev/disk/by-id/ata-WDC_WD40EFRX-68N32N0|
git@ssh.example.com:v3/org/proj/repo|
pip install torch==2.5.1+cu124|
npm i @org/ui@2.0.0-next.14|
logo@2x.webp|
x@y in a decorator|
SELECT * FROM t WHERE id = 123456789|
LIMIT 1000 OFFSET 5000000|
--max-old-space-size=8192|
-Xmx4096m -Xms1024m|
chmod 0644 and 0755|
UTF-8, UTF-16LE|
ratio 1:1000|
10 kHz to 20 MHz|
RTX 3060-12G|
bus 60 kl 08:05|
room 3.14.159|
第 12 章 345 頁|
버전 2.10.3|
"""
SECOND_VERSIONS = (
    "131.0.6778.86", "6.8.0-49-generic", "1.30.0+k3s1", "v0.6.3.post1", "21.0.5+11-LTS-217", "2025.1.0.2.8.0", "15.3.1 (24D70)", "10.0.22631.4460", "11.8.0-1ubuntu1~22.04", "3.0.0-M3",
    "driver 566.14.0.0", "build 250.228.1430", "release 2025-02-28.1", "firmware 01.02.03.04.05", "rev 312.555.0171",
)  # fmt: skip
SECOND_ORDERS = (
    "order 2025022800117", "ordre 40312345", "bestilling 91234567", "tilaus 0401234567", "objednávka 601123456", "invoice 312-555-0171", "PO#4500987654", "shipment 370012345678901234",
    "tracking LX123456785NO", "SKU 091-234-567", "serial 5CG1234XYZ", "ticket INC0012345678", "case 05012345", "batch L20250228-04", "EAN 7038010001234", "item no. 0312345678",
)  # fmt: skip
