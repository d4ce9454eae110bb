"""The values that fill a question's slots and an API's answers: one sampler per kind.

Sampled values are invented (syllables, letters, digits), so that a question can only be solved by copying
them. `HELD_OUT` lists the values that are never sampled; the held-out demo queries use these.
"""

# ruff: noqa: SIM905  (lists of syllables read better as one string)

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random

Value = str | int

_ONSETS = "b bl br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl st t th tr v w y z".split()
_VOWELS = "a a e e i i o o u ai au ea ee ei ia ie oa oo ou".split()
_CODAS = [*([""] * 12), *"n r l s t m k d x nd rt st lm ng ck".split()]
_CHUNKS = (
    "ter har bour land ing ment ver sil ent win mar ket gar den riv light moon dark gold stone wood field "
    "ber man son ton ville burg stad mont val san por nor sud bel lin del cor ran mil hol ster ford wick dale "
    "ham mor bre ad oli pep per gin ger lem tom ato sou ste cur pas try bird song dan cer tra vel ler ket"
).split()
# Everyday words, whole or in part in names: their tokens are not only those of fixed texts.
_STEMS = (
    "over under since found write read close open price table street city word train team league film book paper "
    "author parcel phone ticket room night cost money rate date time day long short old new high low red green blue "
    "place plan ride home house water fire snow rain sun star north south east west king queen round small tall "
    "this that they are what when where which make take give tell find show look need want call play work well"
).split()
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = _CAPITALS.lower()

HELD_OUT: Mapping[str, tuple[Value, ...]] = {
    "place": ("Lisbon", "Nairobi", "Reykjavik", "Osaka", "Valparaiso", "Krakow", "Dakar", "Hobart", "Quito", "Bergen"),
    "person": ("Maria Lindqvist", "Samuel Okafor", "Yuki Tanabe", "Clara Whitfield"),
    "title": ("Silent Harbour", "Winter Bread", "Seven Lanterns", "Orchard Thieves", "Paper Bridges"),
    "dish": ("Lentil Soup", "Apple Strudel", "Pumpkin Curry", "Walnut Bread", "Saffron Rice"),
    "venue": ("Blue Teapot", "Grand Palace", "Copper Kettle", "Royal Garden", "Old Lighthouse"),
    "team": ("Harbour Rovers", "Desert Falcons", "Northside Wanderers", "Iron Badgers"),
    "word": ("lantern", "meadow", "whisper", "cobble", "voyage"),
    "language": ("Norwegian", "Portuguese", "Swahili", "Estonian"),
    "email": ("maria.lindqvist@harbour.example", "okafor@postbox.example", "yuki.tanabe@meadow.example"),
    "domain": ("harbour.example", "postbox.example", "lanterns.example"),
    "phone": ("0552318847", "0714490263", "0938875120"),
    "code": ("QX-48213", "BZ-90657", "MW-31774", "HT-62580"),
    "date": ("2026-03-14", "2027-11-28", "2026-08-05", "2027-02-19"),
    "count": (5, 9, 14, 21),
    "amount": (847, 1290, 3655, 476),
    "currency": ("USD", "EUR", "JPY", "CHF", "NOK"),
}
_TOP_DOMAIN = "example"  # reserved for this purpose, so every domain ends in it
_HELD_OUT_WORDS = frozenset(re.findall(r"[^\W\d_]+", str(list(HELD_OUT.values())))) - {_TOP_DOMAIN}


def sample_value(kind: str, rng: Random) -> Value:
    """A value of `kind` that is none of the held-out ones; names share not even a word with them."""
    while True:
        value = _SAMPLERS[kind](rng)
        words = re.findall(r"[^\W\d_]+", str(value))
        if value not in HELD_OUT.get(kind, ()) and _HELD_OUT_WORDS.isdisjoint(words):
            return value


def _syllables(rng: Random) -> str:
    count = rng.choice((1, 2, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))


def _letters(rng: Random) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randint(3, 8)))


def _chunks(rng: Random) -> str:
    return "".join(rng.choices(_CHUNKS, k=rng.choice((1, 2, 2, 3))))


def _stems(rng: Random) -> str:
    stem = rng.choice(_STEMS)
    return rng.choice((stem, stem + rng.choice(_CHUNKS), rng.choice(_CHUNKS) + stem, stem + rng.choice(_LETTERS)))


def _word(rng: Random) -> str:
    """An invented word. Four styles, so that hardly any sequence of a tokenizer's pieces stays unseen."""
    style = rng.choices((_syllables, _letters, _chunks, _stems), weights=(5, 2, 3, 2))[0]
    return style(rng)


def _name(rng: Random) -> str:
    return _word(rng).capitalize()


def _two_names(rng: Random) -> str:
    return f"{_name(rng)} {_name(rng)}"


def _one_or_two_names(rng: Random) -> str:
    return _name(rng) if rng.random() < 0.75 else _two_names(rng)


def _two_or_three_names(rng: Random) -> str:
    return _two_names(rng) if rng.random() < 0.8 else f"{_two_names(rng)} {_name(rng)}"


def _domain(rng: Random) -> str:
    return f"{_word(rng)}.{_TOP_DOMAIN}"


def _email(rng: Random) -> str:
    user = _word(rng) if rng.random() < 0.4 else f"{_word(rng)}.{_word(rng)}"
    return f"{user}@{_domain(rng)}"


def _digits(rng: Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _date(rng: Random) -> str:
    return f"{rng.choice((2026, 2027))}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _clock(rng: Random) -> str:
    return f"{rng.randint(5, 22):02}:{rng.randint(0, 59):02}"


def _choice(*options: str) -> Callable[[Random], Value]:
    return lambda rng: rng.choice(options)


def _integer(low: int, high: int) -> Callable[[Random], Value]:
    return lambda rng: rng.randint(low, high)


_SAMPLERS: Mapping[str, Callable[[Random], Value]] = {
    # in questions and in answers
    "place": _one_or_two_names,
    "person": _two_names,
    "title": _two_or_three_names,
    "dish": _two_names,
    "venue": _two_names,
    "team": _two_names,
    "word": _word,
    "language": _name,
    "email": _email,
    "domain": _domain,
    "phone": lambda rng: "0" + _digits(rng, 9),
    "code": lambda rng: "".join(rng.choices(_CAPITALS, k=2)) + "-" + _digits(rng, 5),
    "date": _date,
    "count": _integer(2, 40),
    "amount": _integer(11, 9999),
    "currency": lambda rng: "".join(rng.choices(_CAPITALS, k=3)),
    # in answers only
    "clock": _clock,
    "degrees": _integer(1, 39),
    "number": _integer(2, 999),
    "year": _integer(1950, 2025),
    "sky": _choice("clear sky", "light rain", "heavy rain", "thick fog", "strong wind", "some snow"),
    "air": _choice("good", "fair", "poor", "very poor"),
    "parcel_status": _choice("in transit", "at customs", "out for delivery", "delivered", "waiting"),
    "mail_status": _choice("deliverable", "not deliverable", "unknown"),
    "street": lambda rng: f"{_name(rng)} Street {rng.randint(1, 199)}",
    "ingredients": lambda rng: ", ".join(
        rng.sample("flour salt butter sugar milk eggs onions garlic rice beans cream honey oats pepper".split(), 3)
    ),
}
