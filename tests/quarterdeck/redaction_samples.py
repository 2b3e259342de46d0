# ruff: noqa: E501
"""Labeled samples for the redaction: texts with something to hide, and what of each has to go; and texts that stay.

They are made from values (invented, some drawn from a seed) in sentences as people type them into a chat or a search.
"""

import random
import string
from collections.abc import Iterator
from typing import NamedTuple

WORDS = string.ascii_letters + string.digits


class Sample(NamedTuple):
    """A text, its kind, and the part of it that must not be stored; "" where nothing has to go."""

    text: str
    kind: str
    hidden: str = ""


def draw(rng: random.Random, length: int, letters: str = WORDS) -> str:
    """Return random letters, with a digit among them."""
    return "".join(rng.choice(letters) for _ in range(length - 1)) + rng.choice("23456789")


def list_secrets(seed: int) -> Iterator[Sample]:
    """Return the samples with something to hide."""
    rng = random.Random(seed)
    yield from _fill(
        "e-mail", E_MAILS, ("my address is {}", "write to {} please", "{} cannot log in", "cc: {}, thanks")
    )
    yield from _fill("phone", PHONES, ("call me at {}", "my phone is {}, any time", "{}"))
    yield from _fill("card", CARDS, ("card {} was charged twice", "pay with {}", "why is {} declined?"))
    yield from _fill("iban", IBANS, ("transfer it to {}", "IBAN: {}", "is {} a valid account?"))
    yield from _fill("ssn", SSNS, ("my SSN is {}", "{} is my number", "ssn: {}"))
    yield from _fill("password", PASSWORDS, SAID)
    keys = [(name, make(rng)) for name, make in KEYS.items()]
    for at, (name, value) in enumerate(keys):
        for pattern in ("why is {} refused", "use {} as the key", "export API_KEY={}", "{}")[at % 2 :: 2]:
            yield Sample(pattern.format(value), name, value)
    for pattern in COOKIES:
        value = draw(rng, 32)
        yield Sample(pattern.format(value), "cookie", value)
    for line in TYPED.strip().splitlines():
        text, _, hidden = line.rpartition("|")
        yield Sample(text, "typed", hidden)


def list_plain() -> Iterator[Sample]:
    """Return the samples that have to stay as they are."""
    for text in (PLAIN + TYPED_PLAIN).strip().splitlines():
        yield Sample(text.strip(), "plain")
    for pattern in ("upgrade to {}", "{} crashes on start", "is {} supported?"):
        for value in VERSIONS:
            yield Sample(pattern.format(value), "version")
    for pattern in ("where is order {}", "{} has not arrived", "status of {}?"):
        for value in ORDERS:
            yield Sample(pattern.format(value), "order")


def _fill(kind: str, values: tuple[str, ...], patterns: tuple[str, ...]) -> Iterator[Sample]:
    for at, value in enumerate(values):
        for pattern in (patterns[at % len(patterns)], patterns[(at + 1) % len(patterns)]):
            yield Sample(pattern.format(value), kind, value)


E_MAILS = (
    "bob@example.com", "ann.lee+shop@mail.example.co.uk", "j_doe99@sub.example.org", "o'brien@example.ie",
    "info@müller-bau.example.de", "x@y.io", "FIRST.LAST@EXAMPLE.COM", "support@xn--bcher-kva.example",
    "bob [at] example.com", "ann (at) example (dot) org", "a.b.c@d-e.example.museum", "用户@例子.广告",
)  # fmt: skip
PHONES = (
    "+49 30 901820", "+1 (415) 555-2671", "+44 20 7946 0958", "+33 1 23 45 67 89", "+33 (0)1 23 45 67 89",
    "+91 98765 43210", "+86 138 0013 8000", "+81-90-1234-5678", "+55 11 91234-5678", "+7 (495) 123-45-67",
    "+61 412 345 678", "+353 85 123 4567", "(415) 555-2671", "415-555-2671", "415.555.2671", "1-800-555-0199",
    "415 555-2671", "(+49) 30 901820", "0049 30 901820", "030 901820", "030/901820", "0171/1234567", "(030) 901820",
    "089 / 636-48018", "01701234567", "06 12 34 56 78", "06.12.34.56.78", "07911 123456", "020 7946 0958",
    "03-1234-5678", "090-1234-5678", "138-0013-8000", "(11) 91234-5678", "8 (495) 123-45-67", "98765 43210",
    "+49-(0)30-901820", "+14155552671", "+420 601 123 456", "+41 44 668 18 00", "0412 345 678",
    "+380 44 123 4567", "tel:+1-201-555-0123", "+972-3-123-4567", "+52 55 1234 5678",
)  # fmt: skip
CARDS = (
    "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "3782 822463 10005", "6011000990139424",
    "5105 1051 0510 5100", "30569309025904", "3530111333300000", "4222222222222", "2223003122003222",
)  # fmt: skip
IBANS = (
    "DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "FR1420041010050500013M02606",
    "ES91 2100 0418 4502 0005 1332", "NL91ABNA0417164300", "CH93 0076 2011 6238 5295 7", "IT60X0542811101000000123456",
    "AT61 1904 3002 3457 3201", "PL61109010140000071219812874", "be68 5390 0754 7034", "NO93 8601 1117 947",
)  # fmt: skip
SSNS = (
    "123-45-6789",
    "078-05-1120",
    "219-09-9999",
    "457-55-5462",
    "001-01-0001",
    "512-34-7788",
    "AB123456C",
    "QQ 12 34 56 C",
)
SSNS = SSNS[:-1]  # QQ is no valid prefix
PASSWORDS = (
    "hunter2", "Tr0ub4dor&3", "S0mmer2024!", "p@ssw0rd", "qwerty123", "Zx9-kLm2", "letmein99", "iloveyou2", "Pa$$w0rd1",
    "monkey12", "dragon!7", "Winter_2025", "abc123xyz", "7hG!kk2p", "correcthorse1",
)  # fmt: skip
SAID = (
    "my password is {}", "password: {}", "password={} fails", "the password {} does not work", "pwd: {}",
    "Passwort: {}", "passwd {} is rejected", "passphrase: {}", "mysql --password={} -u root", "my pw is {}",
    "user bob password {}", 'password "{}" was refused', "login with pass {} please", "Kennwort lautet {}",
)  # fmt: skip
COOKIES = (
    "Cookie: _streamlit_user={}", "Set-Cookie: sessionid={}; Path=/; HttpOnly", "PHPSESSID={}", "JSESSIONID={}",
    "cookie: theme=dark; connect.sid=s%3A{}", "curl -H 'Cookie: session={}' https://example.com", "csrftoken={}",
    "my session cookie sid={} expired", "laravel_session={}", "XSRF-TOKEN={}", "ASP.NET_SessionId={}",
    "auth_token={}", "remember_token={}", '"session_id": "{}"',
)  # fmt: skip
HEX = "0123456789abcdef"
KEYS = {
    "quarterdeck": lambda rng: f"qd_{draw(rng, 43)}", "openai": lambda rng: f"sk-{draw(rng, 48)}",
    "openai project": lambda rng: f"sk-proj-{draw(rng, 60)}", "anthropic": lambda rng: f"sk-ant-api03-{draw(rng, 60)}",
    "stripe": lambda rng: f"sk_live_{draw(rng, 24)}", "stripe restricted": lambda rng: f"rk_live_{draw(rng, 24)}",
    "stripe webhook": lambda rng: f"whsec_{draw(rng, 32)}", "github": lambda rng: f"ghp_{draw(rng, 36)}",
    "github fine": lambda rng: f"github_pat_{draw(rng, 22)}_{draw(rng, 59)}", "gitlab": lambda rng: f"glpat-{draw(rng, 20)}",
    "slack bot": lambda rng: f"xoxb-{draw(rng, 12, '123456789')}-{draw(rng, 24)}",
    "slack app": lambda rng: f"xapp-1-{draw(rng, 11)}-{draw(rng, 40)}",
    "slack hook": lambda rng: f"hooks.slack.com/services/T{draw(rng, 8)}/B{draw(rng, 8)}/{draw(rng, 24)}",
    "aws id": lambda rng: "AKIA" + draw(rng, 16, string.ascii_uppercase + "234567"),
    "google": lambda rng: f"AIza{draw(rng, 35)}", "google oauth": lambda rng: f"ya29.{draw(rng, 60)}",
    "google client": lambda rng: f"GOCSPX-{draw(rng, 28)}", "hugging face": lambda rng: f"hf_{draw(rng, 34)}",
    "npm": lambda rng: f"npm_{draw(rng, 36)}", "pypi": lambda rng: f"pypi-{draw(rng, 80)}",
    "sendgrid": lambda rng: f"SG.{draw(rng, 22)}.{draw(rng, 43)}", "twilio": lambda rng: f"SK{draw(rng, 32, HEX)}",
    "mailgun": lambda rng: f"key-{draw(rng, 32, HEX)}", "mailchimp": lambda rng: f"{draw(rng, 32, HEX)}-us12",
    "docker": lambda rng: f"dckr_pat_{draw(rng, 27)}", "digitalocean": lambda rng: f"dop_v1_{draw(rng, 64, HEX)}",
    "databricks": lambda rng: f"dapi{draw(rng, 32, HEX)}", "shopify": lambda rng: f"shpat_{draw(rng, 32, HEX)}",
    "telegram": lambda rng: f"{draw(rng, 9, '123456789')}:AA{draw(rng, 33)}",
    "atlassian": lambda rng: f"ATATT3{draw(rng, 60)}", "linear": lambda rng: f"lin_api_{draw(rng, 40)}",
    "notion": lambda rng: f"ntn_{draw(rng, 44)}", "figma": lambda rng: f"figd_{draw(rng, 40)}",
    "grafana": lambda rng: f"glsa_{draw(rng, 32)}_{draw(rng, 8, HEX)}", "groq": lambda rng: f"gsk_{draw(rng, 52)}",
    "replicate": lambda rng: f"r8_{draw(rng, 37)}", "pinecone": lambda rng: f"pcsk_{draw(rng, 60)}",
    "langfuse": lambda rng: f"sk-lf-{draw(rng, 8, HEX)}-{draw(rng, 4, HEX)}-{draw(rng, 12, HEX)}",
    "langsmith": lambda rng: f"lsv2_pt_{draw(rng, 32, HEX)}_{draw(rng, 10, HEX)}", "vault": lambda rng: f"hvs.{draw(rng, 90)}",
    "new relic": lambda rng: f"NRAK-{draw(rng, 27)}", "postman": lambda rng: f"PMAK-{draw(rng, 24, HEX)}-{draw(rng, 34, HEX)}",
    "airtable": lambda rng: f"pat{draw(rng, 14)}.{draw(rng, 64, HEX)}", "perplexity": lambda rng: f"pplx-{draw(rng, 48)}",
    "xai": lambda rng: f"xai-{draw(rng, 80)}", "supabase": lambda rng: f"sbp_{draw(rng, 40, HEX)}",
    "square": lambda rng: f"sq0atp-{draw(rng, 22)}", "razorpay": lambda rng: f"rzp_live_{draw(rng, 24)}",
    "jwt": lambda rng: f"eyJhbGciOiJIUzI1NiJ9.eyJ{draw(rng, 40)}.{draw(rng, 43)}",
    "discord": lambda rng: f"M{draw(rng, 25)}.{draw(rng, 6)}.{draw(rng, 38)}",
    "sentry": lambda rng: f"sntrys_{draw(rng, 60)}", "rubygems": lambda rng: f"rubygems_{draw(rng, 48, HEX)}",
    "doppler": lambda rng: f"dp.pt.{draw(rng, 43)}", "nvidia": lambda rng: f"nvapi-{draw(rng, 60)}",
    "netlify": lambda rng: f"nfp_{draw(rng, 40)}", "age": lambda rng: f"AGE-SECRET-KEY-1{draw(rng, 58, string.ascii_uppercase + '234567')}",
}  # fmt: skip
VERSIONS = (
    "21.11.2", "114.0.5735.199", "v1.2.3-rc.4+build.20240115", "10.0.19045.3693", "2024.10.0415", "1.0.0-alpha.20231215",
    "driver 535.129.0315", "build 415.555.2671", "version 212.345.6789", "firmware 06.12.34.56.78", "kernel 6.1.0-18-amd64",
    "release 2023-11-15-001", "TLSv1.3", "iOS 17.4.1 (21E236)", "openssl 3.0.13 30 Jan 2024", "JDK 21.0.2+13-58",
    "12.4.131~12.4.99", "CUDA 12.1.105-1",
)  # fmt: skip
ORDERS = (
    "order 0123456789", "order number 4155552671", "ORD-2024-00123456", "invoice 20240115-0042", "ticket #004711",
    "PO 4500012345", "SKU 0412345678", "article 0171234567", "tracking 1Z999AA10123456784", "case 00123456789",
    "order #98765 43210", "parcel 00340434161094042557", "ISBN 978-3-16-148410-0", "customer no. 0301234567",
    "serial 030-901820-77", "EAN 4006381333931", "ref 123456789", "batch 2024 0115 0042", "RMA 06 12 34 56 78",
)  # fmt: skip
PLAIN = """
how do I reset my password
password reset link has expired
the password is wrong
what is the password policy for admins
password hashing with argon2id or bcrypt
password sha256 or md5
is the password stored in plain text
password: required
passwords must have 12 characters
where is the pass-through mode configured
pass 2 of the compiler fails
secret: how do Kubernetes secrets work
secrets manager pricing
what is a session cookie
cookie: how do I delete it
session timeout after 30 minutes
csrf token mismatch
token limit of gpt-4 is 128000
what is an access token
the token expired
api key rotation every 90 days
set max_tokens=4096 and temperature=0.7
bearer token authentication
basic auth in nginx
ping 192.168.178.20 from 10.0.0.1
bind 127.0.0.1:8501
fe80::1ff:fe23:4567:890a
aa:bb:cc:dd:ee:ff
0000:3b:00.1 is bound to vfio-pci
commit 841ffe8a1b2c3d4e5f60718293a4b5c6d7e8f901
sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
550e8400-e29b-41d4-a716-446655440000
2026-03-01T12:30:00Z
from 2024-01-15 to 2024-02-20
opening hours 9:00-17:30
timestamp 1700000000123
error 0x80070057 while updating
ORA-00942: table or view does not exist
CVE-2024-12345 and CVE-2023-4863
RFC 2131 section 4.1
ISO 27001:2022
HTTP 404, 502 and 503
chmod 0755 /usr/local/bin
rte_mempool_create(8192, 256, 0)
hugepages 1024 2048 512 256 128
--socket-mem 1024,1024 -l 0-3 -n 4
1,234,567 rows in 12.5 seconds
14,880,952 packets per second
3.14159265358979
10 + 20 = 30
+10 dB and -3 dBm
temperature -40 to +85
C++17, C++20 and C++23
git clone git@github.com:org/repo.git
ssh root@localhost
npm i left-pad@1.3.0 @scope/pkg
https://example.com/a/b?page=2&size=100
https://docs.example.com/v2.11/api#section-4
the model has 70000000000 parameters
population of 83 240 525
coordinates 52.520008, 13.404954
room 415 on floor 5
flight LH 400 at 10:15
DIN EN 60529 IP67
part A1-B2-C3
what does exit code 137 mean
port 8080-8090 is closed
8443/tcp open
PCI 8086:1572
user story 1234
bug 98765
chapter 12, page 345
0.0.0.0/0 and ::/0
sk-learn-pipelines-and-transformers
key=value pairs
primary_key=customer_identifier
foreign_key=orders_2024_partitions
public key infrastructure
the pin layout of the Raspberry Pi
pin 12 is ground
GPIO pin 17 to 27
call by reference or by value
call stack size 10000
number of rows 1234567
reach 100000 requests
phone support on weekends
mobile first design
cell A1 to Z100
telephone extension 42
dial tone missing
fax 2 pages
1e10 and 1e-10
2^31-1 = 2147483647
uid 1000 gid 1000
account settings
iban validation with mod 97
SSN masking in logs
social security benefits
credit card 3d secure
4111 1111 1111 1112
§ 4.2.1.3
日本語 12345
Größe 12345 Bytes
"""

# As people type them: the text, and after the last bar what has to go.
TYPED = r"""
my IBAN is DE75 5121 0800 1245 1261 99|5121 0800
Please refund to GB33BUKB20201555555555 asap|GB33BUKB
konto ES7921000813610123456789|ES79210008
My social is 536-90-4399, can you check my claim?|536-90-4399
SSN 536904399|536904399
social security number 536 90 4399|536 90 4399
QUARTERDECK_TOKEN=qd_9sJ2kLmNpQrStUvWxYz0123456789abcdefghijklmn|9sJ2kLmNpQ
curl -H "Authorization: Bearer qd_9sJ2kLmNpQrStUvWxYz0123456789abcdefghijklmn" host|9sJ2kLmN
password: Sommer2023|Sommer2023
password : Sommer2023|Sommer2023
password: fluffybunny|fluffybunny
my password is fluffybunny|fluffybunny
The admin password is Xk29!pq|Xk29!pq
my password was changed to Blue42Horse|Blue42Horse
db password hunter42|hunter42
username: root password: toor|toor
user=admin;password=admin123;host=db|admin123
pass: 9fK2m!|9fK2m!
passwort ist Geheim123|Geheim123
PASSWORD 'Sup3rS3cret'|Sup3rS3cret
root/Passw0rd! does not log in|Passw0rd!
login: bob pw: bobspass1|bobspass1
Cookie: session=eyJ1c2VyIjoiYm9iIn0.ZxYwVu.abcDEFghiJKLmnoPQRstuVWX|ZxYwVu
document.cookie = "sessionid=8h3k2j4h5k6j7h8g9f0d"|8h3k2j4h5k
Set-Cookie: SID=31d4d96e407aad42; Path=/; Secure|31d4d96e407aad42
_streamlit_user="2|1:0|10:1716212345|15:_streamlit_user|48:abcdefgh1234"|abcdefgh1234
sess=ab12cd34ef56ab12cd34ef56|ab12cd34ef56
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY1|wJalrXUtnFEMI
aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLE7KEY|wJalrXUtnFEMI
AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==|Eby8vdM02x
DefaultEndpointsProtocol=https;AccountName=x;AccountKey=abcD1234efgh5678ijkl9012mnop3456|abcD1234efgh
AZURE_OPENAI_KEY: 3f9a7c1e5b2d48f6a0c9e8d7b6a5f4e3|3f9a7c1e5b2d
COHERE_API_KEY=Zk3pQ9xW7vB2nM5cR8tY1uJ4hG6fD0sAaLqEoIiP|Zk3pQ9xW7v
stripe key sk_test_51H8x2yKZvQw3e4r5t6y7u8i|51H8x2yK
pk_live_51H8x2yKZvQw3e4r5t6y7u8i|51H8x2yK
hf token hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678|AbCdEfGh
github token ghs_16C7e42F292c6912E7710c838347Ae178B4a|16C7e42F
SENDGRID SG.abcDEF123_ghiJKL456.mnoPQR789-stuVWX012yzABC345|abcDEF123
mongodb+srv://app:S3cr3t@cluster0.example.mongodb.net/db|S3cr3t
redis://:p4ssw0rd@redis:6379/0|p4ssw0rd
https://bob:tok3n@example.com/repo.git|tok3n
amqp://guest:guest1@rabbit|guest1
sig=abc&X-Amz-Signature=3f9a7c1e5b2d48f6a0c9e8d7b6a5f4e33f9a7c1e5b2d48f6a0c9e8d7b6a5f4e3|3f9a7c1e
client_secret=Kx8Q~abcDEFghiJKLmnoPQRstuVWX123456|abcDEFghi
refresh_token: 1//0gabcDEFghiJKLmnoPQRstuVWXyz-1234567890abcdef|abcDEFghi
x-api-key: 9f8e7d6c5b4a39281706f5e4d3c2b1a0|9f8e7d6c
my api key is 9f8e7d6c5b4a39281706f5e4d3c2b1a0|9f8e7d6c
heroku key 01234567-89ab-cdef-0123-456789abcdef|89ab-cdef
-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXk -----END OPENSSH PRIVATE KEY-----|b3BlbnNz
-----BEGIN PGP PRIVATE KEY BLOCK----- lQdGBGRk -----END PGP PRIVATE KEY BLOCK-----|lQdGBGRk
call 0151 23456789|23456789
Rückruf unter 0151-23456789|23456789
my mobile: 07700 900123|900123
ring 020 7183 8750|7183
tel. 01 42 68 53 00|42 68 53
Tel: 0211/123 45 67|123 45
+1-202-555-0147|555-0147
+1 202 555 0147|555 0147
202-555-0147 is my number|555-0147
(202)555-0147|555-0147
2025550147 call me|2025550147
call me on 2025550147|2025550147
my phone number is 202 555 0147|555 0147
+34 612 345 678|612 345
mi móvil es 612 345 678|612 345
+39 02 1234 5678|1234 5678
+31 6 12345678|12345678
06-12345678|12345678
+48 501 234 567|501 234
+46 70 123 45 67|70 123
+65 6123 4567|6123 4567
+64 21 123 4567|123 4567
+27 82 123 4567|82 123
00 44 20 7946 0958|7946
0044 7700 900123|900123
+90 532 123 45 67|532 123
+971 50 123 4567|50 123
call 555-0147|555-0147
phone 555 0147|555 0147
0800 123 4567|123 4567
1800 123 456|123 456
whatsapp +55 (21) 99876-5432|99876
john.smith@company-mail.example|john.smith
my visa 4539 1488 0343 6467|4539
mastercard 5425233430109903 cvv 123|5425233430109903
amex 374245455400126|374245455400126
cvv: 123|123
my pin is 4711|4711
verification code 492817|492817
passport number C01X00T47|C01X00T47
NINO: JG103759A|JG103759A
CPF 529.982.247-25|529.982
my telegram bot 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw|AAHdqT
key: dGhpcyBpcyBhIHNlY3JldCBrZXk2NTQzMjE=|dGhpcyBp
--api-key abcd1234efgh5678|abcd1234efgh
curl -u bob:s3cret99 https://x|s3cret99
mysql -u root -pS3cret!9|S3cret!9
sshpass -p 'S3cret!9' ssh host|S3cret!9
PGPASSWORD=s3cret psql|s3cret
session token FwoGZXIvYXdzEBYaDKexampletoken12345|FwoGZX
"""
TYPED_PLAIN = r"""
how to reset password in keycloak 24
password123 is a bad example policy? no
what is passwordless login
set password complexity to 3
password field type
password expired yesterday
forgot my password and username
password too short error 422
password change every 90 days
is the password case sensitive
password manager 1password vs bitwarden
secret rotation in vault 1.15
vault secret engine v2
pass rate 95%
pass@1 on humaneval
version 4.18.0-513.11.1.el8_9.x86_64
python 3.12.0a7
windows 10 22H2 19045.4046
postgresql 16.2-1.pgdg120+2
chrome/122.0.6261.112
nginx/1.25.4 released 2024-02-14
order 302-4455667-8899001
order no 4500123456
Bestellnummer 0815123456
Order #1029384756
AWB 157-12345675
tracking number 00340434161094042557
invoice INV-2024-000123
ticket 20240115123456
PR 12345 and issue #67890
ISBN 9783161484100
article 4006381333931
serial number 5CG1234567
MAC 00:1A:2B:3C:4D:5E
IMEI is 15 digits
IPv4 255.255.255.255
subnet 10.20.30.0/24
uuid 123e4567-e89b-12d3-a456-426614174000
2024-03-10 14:22:05.123456 ERROR
1710080525 unix time
lat 37.7749 lon -122.4194
$1,299.99 for 3
page 12 of 345
0x7ffee4bff5c8
sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709
md5 d41d8cd98f00b204e9800998ecf8427e
commit 9fceb02
branch release/2024.03.1
docker image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
arXiv 2305.14314
doi 10.1145/3290605.3300233
RFC 9110
room 12.345.678
1 2 3 4 5 6 7 8 9 10
10 20 30 40 50 60 70
numbers 1000 2000 3000 4000
resolution 3840 2160
3-2-1 backup rule
2023/2024 season
call(0123) fails
phone number validation regex
mobile app version 7.12.3
what does session_id mean
sessionid cookie not set
auth_token missing in header
token count 8192 tokens
max token length=4096
cookie consent banner
csrf protection in django
api_key is required
API key: where do I find it
secret key missing
access key id format
bearer authentication scheme
jwt vs session cookies
sk_buff structure in linux
pk constraint fails
ghp prefix of tokens
email validation
user@host:~$ ls
@decorator usage
foo@2x.png
git@gitlab.com:group/project.git
ssn column masking
IBAN length per country
pin 3 of the connector
pin code length 6
CVE-2023-44487 score 7.5
otp verification fails
code 404
error code 100235
verification code not received
exit code 139
security code scanning
zip code 94107
postal code 10115 Berlin
error 1234567890
row 1234567890123
memory 17179869184 bytes
id 4111111111111112
5 000 000 users
2147483648 overflow
8.8.8.8 and 1.1.1.1
UTC+05:30
+15% growth
+1 for this
v2ray 5.14.1
A4 210 x 297
123-456-7890-ABC
"""
