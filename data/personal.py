"""Where a text names a person's data: e-mail, phone, card, IBAN, IP address, national id; and secrets such as API keys.

Patterns propose, check digits decide (Luhn, mod 97, the countries' own, by python-stdnum). Not recognised: names of
people, streets and places, dates of birth; they need a trained model.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import ip_address
from typing import Literal, NamedTuple

PersonalKind = Literal["SECRET", "EMAIL", "IBAN", "CARD", "IP", "NATIONAL_ID", "PHONE"]
# Where two findings overlap, the kind that comes first here has it: a phone number is the weakest pattern.
PERSONAL_KINDS: tuple[PersonalKind, ...] = ("SECRET", "EMAIL", "IBAN", "CARD", "IP", "NATIONAL_ID", "PHONE")


class Span(NamedTuple):
    """A finding: text[start:end] is of this kind."""

    kind: PersonalKind
    start: int
    end: int


# Every pattern starts at a word's edge and has bounded repeats: the time stays linear in the text's length.
_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"
    r"|(?<![\w.+-])[\w.+-]{1,64}\s?[\[(]\s?at\s?[\])]\s?[\w-]{1,63}(?:(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)[\w-]{1,63}){1,8}",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?!\w)", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w+])(?<!\d[.,/-])[1-6](?:[ -]?\d){11,18}(?!\w)")
_IPV4 = re.compile(r"(?<![\w.])(?<!version )(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.IGNORECASE)
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[\da-f:.]{0,45}\d)[\da-f]{0,4}:(?:[\da-f]{0,4}:){1,7}"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|[\da-f]{0,4})(?![\w:])",
    re.IGNORECASE,
)
_SEPARATOR = r"[ \u00a0.()\u2010-\u2013-]"
_PHONE = re.compile(rf"(?<![\w@#$€£])(?<!\d[:.,/-])(?<![A-Z]-)\+?\(?\d(?:{_SEPARATOR}{{0,3}}\d){{6,14}}(?!\w)")
_PHONE_WORD = re.compile(
    r"\b(?:phones?|tele(?:phone|fon|fono)?|tel|call(?:ed|ing)?|mobile|cell|fax|whatsapp|sms|text(?:ed)?|handy|dial(?:led)?|"
    r"reach(?:ed)?)\b\W{0,3}(?:\w+\W{1,3}){0,3}$",
    re.IGNORECASE,
)
_PLACE_WORD = re.compile(r"\b(?:suite|apt|apartment|unit|box|room|zip|order|invoice|ticket)\b\W{0,3}$", re.IGNORECASE)
_DATE = re.compile(r"(?:19|20)\d{2}\D\d{1,2}\D\d{1,2}(?!\d)|\d{1,2}\D\d{1,2}\D(?:19|20)\d{2}(?!\d)")
_YEARS = re.compile(r"(?:19|20)\d{2}\D+\d{4}|1\d{3}\D+(?:1\d|20)\d{2}")
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{0,8000}?-----END [A-Z ]{0,30}PRIVATE KEY-----"
    r"|(?<!\w)(?:sk|pk|rk)[-_][A-Za-z0-9_-]{20,200}|(?<!\w)gh[pousr]_[A-Za-z0-9]{30,255}"
    r"|(?<!\w)github_pat_\w{20,255}|(?<!\w)glpat-[\w-]{20,64}|(?<!\w)hf_[A-Za-z0-9]{30,64}"
    r"|(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)|(?<!\w)AIza[\w-]{35}|(?<!\w)xox[abeoprs]-[\w-]{10,200}"
    r"|(?<!\w)eyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000}"
)
# "password: hunter2": the value must hold a digit, since "password: required" is no secret.
_PASSWORD = re.compile(
    r"(?<![a-z])(?:password|passwd|pwd|passwort|secret|api[ _-]?key|access[ _-]?token|auth[ _-]?token)"
    r"(?:\s{0,2}[:=]\s{0,2}|\s+is\s+)[\"']?(?=[^\s\"']{0,100}\d)([^\s\"',;]{6,128})",
    re.IGNORECASE,
)
_ID_AFTER_WORD = re.compile(
    r"\b(?:ssn|social security|national id|national insurance|passport|tax id|bsn|aadhaar|personnummer)"
    r"(?: number| no\.?)?\W{0,3}(?:is\W{1,3})?([A-Z]{0,3}-?\d[\dA-Z]{0,15}(?:[ -]\d[\dA-Z]{0,8}){0,5})(?!\w)",
    re.IGNORECASE,
)
# Pattern and the modules of python-stdnum, one of which must accept what it matches; none: the pattern alone decides.
_NATIONAL_IDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{3}-\d{2}-\d{4}", ("us.ssn", "us.itin")),
    (r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", ()),  # British national insurance number
    (r"[XYZ]-?\d{7}-?[A-Z]|\d{8}-?[A-Z]", ("es.dni", "es.nie")),
    (r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]", ("it.codicefiscale",)),
    (r"[12] ?\d{2} ?\d{2} ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}", ("fr.nir",)),
    (r"\d{11}|\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}|\d{2} \d{3} \d{3} \d{3}",
     ("pl.pesel", "no.fodselsnummer", "be.nn", "de.idnr")),
    (r"\d{6}[-+A]\d{3}[0-9A-Z]", ("fi.hetu", "se.personnummer", "dk.cpr")),
    (r"\d{8}[-+]\d{4}", ("se.personnummer",)),
    (r"\d{3}\.\d{3}\.\d{3}-\d{2}", ("br.cpf",)),
    (r"756\.\d{4}\.\d{4}\.\d{2}", ("ch.ssn",)),
    (r"\d{4} \d{4} \d{4}", ("in_.aadhaar",)),
)  # fmt: skip


def find_personal(text: str) -> list[Span]:
    """All findings in `text`, in its order, without overlaps."""
    found: list[Span] = []
    taken = bytearray(len(text))
    for kind in PERSONAL_KINDS:
        for start, end in _FINDERS[kind](text):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found.append(Span(kind, start, end))
    return sorted(found, key=lambda span: span.start)


def same_value(kind: PersonalKind, text: str) -> str:
    """What is equal for two spellings of the same value."""
    if kind in ("CARD", "PHONE"):
        return "".join(c for c in text if c.isdigit())
    if kind in ("IBAN", "NATIONAL_ID"):
        return "".join(c for c in text if c.isalnum()).upper()
    return text if kind == "SECRET" else text.casefold()


def _secrets(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _SECRET.finditer(text))
    yield from (match.span(1) for match in _PASSWORD.finditer(text))


def _emails(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """The longest valid IBAN from each start: the words after one are letters too, and the pattern takes them along."""
    from stdnum import iban

    for match in _IBAN.finditer(text):
        for end in range(match.end(), match.start() + 14, -1):
            if (
                not text[end : end + 1].isalnum()
                and text[end - 1].isalnum()
                and iban.is_valid(text[match.start() : end])
            ):
                yield match.start(), end
                break


def _cards(text: str) -> Iterator[tuple[int, int]]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = same_value("CARD", match[0])
        if len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                ip_address(match[0])
            except ValueError:
                continue
            yield match.span()


def _national_ids(text: str) -> Iterator[tuple[int, int]]:
    for pattern, countries in _NATIONAL_IDS:
        for match in _whole(pattern).finditer(text):
            if not countries or any(_validator(country)(match[0]) for country in countries):
                yield match.span()
    yield from (m.span(1) for m in _ID_AFTER_WORD.finditer(text) if sum(c.isdigit() for c in m[1]) >= 5)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        if _is_phone(match[0], text[max(0, match.start() - 60) : match.start()]):
            yield match.span()


def _is_phone(number: str, before: str) -> bool:
    """Whether the digits are grouped as in a phone number, begin like one, or follow a word such as "call"."""
    groups = [len(group) for group in re.findall(r"\d+", number)]
    if number.startswith(("+", "00")):
        return sum(groups) >= 8
    if _PHONE_WORD.search(before):
        return True
    number = number.lstrip("(")
    if len(groups) == 1:
        return number.startswith("0") and sum(groups) in (10, 11)
    if (
        _PLACE_WORD.search(before) or _DATE.match(number) or _YEARS.fullmatch(number) or groups == [5, 4]
    ):  # the last: an American ZIP code
        return False
    if len(groups) == 2:
        return groups[0] >= 2 and groups[1] >= 4 and "." not in number
    return min(groups[1:]) >= 2


@cache
def _whole(pattern: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<![\w.-])(?:{pattern})(?![\w-]|\.\d)")


@cache
def _validator(country: str) -> Callable[[str], bool]:
    from importlib import import_module

    is_valid: Callable[[str], bool] = import_module(f"stdnum.{country}").is_valid
    return is_valid


_FINDERS: dict[PersonalKind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "SECRET": _secrets, "EMAIL": _emails, "IBAN": _ibans, "CARD": _cards, "IP": _addresses,
    "NATIONAL_ID": _national_ids, "PHONE": _phones,
}  # fmt: skip
