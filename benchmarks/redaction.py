"""How much personal data is found, and how much of what is found is none: recall and precision for each kind.

Run `python -m benchmarks.redaction FILE` with a file of presidio-research's synthetic sentences (a JSON array with
full_text and spans). A labelled span is found when every character of it would be replaced, of whatever kind we think
it is; a finding is right when it touches a labelled span of its kind. Kinds of which the file has few or none are
measured on sentences made here, which also hold what only looks like them. JSON lines.
"""

import argparse
import json
import random
import string
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from stdnum import iban, luhn

from data.personal import PersonalKind, find_personal

KINDS: dict[str, PersonalKind] = {
    "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "CREDIT_CARD": "CARD", "IBAN_CODE": "IBAN", "IP_ADDRESS": "IP",
    "US_SSN": "NATIONAL_ID",
}  # fmt: skip
Labelled = tuple[str, int, int]  # label, start, end
SENTENCES = ("My {} is not accepted.", "{}", "Please note: {}, thank you!", "Is it {}?", "Data ({}) as of 12/05/2024.")


def presidio(path: Path) -> list[tuple[str, list[Labelled]]]:
    """Texts and their labelled spans."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [
        (r["full_text"], [(s["entity_type"], s["start_position"], s["end_position"]) for s in r["spans"]]) for r in rows
    ]


def measure(rows: list[tuple[str, list[Labelled]]]) -> list[dict[str, object]]:
    """For each label: how many there are, found, found as their kind; findings of that kind, and how many are right."""
    labelled: Counter[str] = Counter(label for _, spans in rows for label, _, _ in spans)
    hidden, named, findings, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for text, spans in rows:
        found = find_personal(text)
        covered = {i for finding in found for i in range(finding.start, finding.end)}
        for label, start, end in spans:
            hidden[label] += all(i in covered or text[i].isspace() for i in range(start, end))
            named[label] += any(f.kind == KINDS.get(label) and f.start < end and start < f.end for f in found)
        for f in found:
            findings[f.kind] += 1
            right[f.kind] += any(KINDS.get(label) == f.kind and f.start < e and s < f.end for label, s, e in spans)
    results: list[dict[str, object]] = []
    for label in sorted(labelled):
        kind = KINDS.get(label, "")
        results.append({
            "label": label, "labelled": labelled[label], "recall": round(hidden[label] / labelled[label], 3),
            "recall_as_kind": round(named[label] / labelled[label], 3), "findings": findings[kind],
            "precision": round(right[kind] / findings[kind], 3) if findings[kind] else None,
        })  # fmt: skip
    return results


def made(count: int = 500, seed: int = 0) -> list[tuple[str, list[Labelled]]]:
    """`count` sentences for each kind with one value, and as many with what only looks like one."""
    chance = random.Random(seed)
    rows: list[tuple[str, list[Labelled]]] = []
    for label, make in MAKERS.items():
        for number in range(count):
            value = make(chance)
            before, after = SENTENCES[number % len(SENTENCES)].split("{}")
            spans = [(label, len(before), len(before) + len(value))] if label in KINDS else []
            rows.append((before + value + after, spans))
    return rows


def digits(chance: random.Random, count: int) -> str:
    return "".join(chance.choices(string.digits, k=count))


def email(chance: random.Random) -> str:
    name = chance.choice(("anna", "j.doe", "max_m", "ops+alerts", "O'Neil", "zoë"))
    host = chance.choice(("mail.example.com", "example.co.uk", "ex-ample.org", "xn--bcher-kva.example", "a.io"))
    return f"{name}{chance.randrange(100)}@{host}"


def card(chance: random.Random) -> str:
    bare = chance.choice(("4", "51", "55", "2221", "6011")) + digits(chance, 15)
    bare = bare[:15] + luhn.calc_check_digit(bare[:15])
    separator = chance.choice(("", " ", "-"))
    return separator.join(bare[i : i + 4] for i in range(0, 16, 4))


def bank_account(chance: random.Random) -> str:
    country, length, letters = chance.choice((("DE", 18, ""), ("GB", 14, "NWBK"), ("NL", 10, "ABNA"), ("AT", 16, "")))
    account = letters + digits(chance, length)
    bare = country + str(iban.calc_check_digits(f"{country}00{account}")) + account
    return bare if chance.random() < 0.5 else " ".join(bare[i : i + 4] for i in range(0, len(bare), 4))


def ip(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return str(IPv4Address(chance.getrandbits(32)))
    address = IPv6Address(0x2001_0DB8 << 96 | chance.getrandbits(64 if chance.random() < 0.5 else 96))
    return chance.choice((address.compressed, address.exploded))


def ssn(chance: random.Random) -> str:
    return f"{chance.randrange(1, 666):03d}-{chance.randrange(1, 100):02d}-{chance.randrange(1, 10000):04d}"


def lookalike(chance: random.Random) -> str:
    """Numbers of everyday texts that are no personal data: the check digits are wrong, or there are none."""
    wrong_card = digits(chance, 1).replace("0", "4") + digits(chance, 14)
    wrong_card += str((int(luhn.calc_check_digit(wrong_card)) + 1) % 10)
    n = [digits(chance, 4) for _ in range(2)]
    month = chance.randrange(1, 13)
    return chance.choice((
        f"order {wrong_card}", f"2024-{month:02d}-17 10:30", f"17.{month}.2023", f"10:{month:02d}:30", "1980-1985",
        f"€1,{n[0][:3]},000.00", f"$12,{n[0][:3]}", f"3.{n[0]}{n[1]}", f"room {n[0]}", f"#{n[0]}{n[1]}", "24/7/365",
        f"ORD-2023-{n[0]}", f"version {n[0][0]}.{n[1][0]}.12", f"90210-{n[0]}", "978-3-16-148410-0", "@support",
        f"DE00 {n[0]} 0044 0532 0130 0", f"300.{n[0][:3]}.1.1",
    ))  # fmt: skip


def phone(chance: random.Random) -> str:
    form = chance.choice(("+49 30 ########", "(2##) ###-####", "2##-###-####", "+44 7### ######", "+1.2##.###.####",
                          "0## ### ## ##", "001-2##-###-####", "07#########"))  # fmt: skip
    return "".join(digits(chance, 1) if c == "#" else c for c in form)


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL_ADDRESS": email, "CREDIT_CARD": card, "IBAN_CODE": bank_account, "IP_ADDRESS": ip, "US_SSN": ssn,
    "PHONE_NUMBER": phone, "NONE": lookalike,
}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    for source, sentences in (("presidio", presidio(parser.parse_args().file)), ("made here", made())):
        for result in measure(sentences):
            print(json.dumps({"source": source, **result}))
