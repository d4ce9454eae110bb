"""Draws the values that fill a question's slots and an API's answers: one sampler per kind.

Values are short combinations of parts from small lists (words, pairs of letters, pairs of digits), so that a
question can only be solved by copying them and a tiny model can learn to. No part occurs twice in a value.
`HELD_OUT` lists the values that are never sampled; the held-out demo queries use these. Their parts are known:
"Amber Falls" is held out, "Amber Valley" and "Copper Falls" are not.
"""

# ruff: noqa: SIM905  (lists of words read better as one string)

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice
from random import Random

Value = str | int

_ADJECTIVES = (
    "Amber Ancient Autumn Azure Black Blue Brave Bright Bronze Calm Cedar Clear Cloudy Copper Coral Crimson Crystal "
    "Distant Eastern Emerald Fair Foggy Frozen Gentle Golden Grand Granite Gray Green Happy Hidden Hollow Iron Ivory "
    "Jade Little Lonely Lucky Marble Merry Misty Noble Northern Olive Opal Orange Pearl Pink Proud Purple Quiet Rapid "
    "Red Rocky Royal Ruby Rusty Sandy Scarlet Secret Shady Silent Silver Southern Spring Steel Stormy Summer Sunny "
    "Swift Thunder Velvet Violet Warm Western White Wild Winter Wooden Yellow"
).split()
_NAMES: Mapping[str, tuple[list[str], list[str]]] = {  # kind -> first and second words
    "place": (
        _ADJECTIVES,
        "Falls Valley Harbour Bay Hills Bridge Castle Creek Forest Island Lake Mountain Port River Springs".split(),
    ),
    "venue": (
        _ADJECTIVES,
        "Palace Kettle Teapot Garden Lighthouse Corner Lantern Mill Tavern Terrace Tower Villa Lodge Arcade".split(),
    ),
    "title": (
        _ADJECTIVES,
        "Letters Dreams Secrets Shadows Voices Mirrors Promises Stories Thieves Wishes Journeys Songs Nights".split(),
    ),
    "team": (_ADJECTIVES, "Rovers Falcons Badgers Wanderers Tigers Wolves Eagles Sharks Bears Hawks Lions".split()),
    "league": (_ADJECTIVES, "League Cup Division Series Trophy Tournament Championship Shield".split()),
    "dish": (
        (
            "Lentil Apple Pumpkin Walnut Saffron Tomato Potato Mushroom Onion Garlic Pepper Lemon Ginger Cheese "
            "Chicken Carrot Spinach Coconut Almond Cherry Peach Plum Honey Bean"
        ).split(),
        "Soup Strudel Curry Bread Rice Salad Stew Cake Tart Pudding Noodles Pie".split(),
    ),
    "person": (
        (
            "Maria Samuel Yuki Clara Anna Peter Laura Simon Elena Oscar Nadia Victor Julia Martin Rosa David Emma "
            "Felix Greta Hugo Irene Jonas Karin Leo"
        ).split(),
        (
            "Okafor Tanabe Whitfield Lindqvist Moreno Fischer Novak Silva Rossi Larsen Dubois Keller Santos Petrov "
            "Jensen Murphy Costa Weber Lopez Haddad"
        ).split(),
    ),
    "language": (
        "Modern Formal Medieval Coastal Rural Classical Colloquial Insular".split(),
        "Norwegian Portuguese Swahili Estonian Italian Polish Turkish Danish Korean Greek Finnish Hindi".split(),
    ),
    "sky": ("Light Heavy Some Strong Patchy".split(), "Rain Snow Clouds Wind Sunshine Fog Hail".split()),
    "air": ("Very Rather Mostly".split(), "Good Bad Poor Healthy".split()),
    "parcel_status": ("Still Already Safely".split(), "Waiting Travelling Stored Delivered".split()),
    "mail_status": ("Surely Probably Possibly".split(), "Deliverable Unknown Blocked".split()),
    "street": (_ADJECTIVES, "Street Road Lane Avenue Square".split()),
    "ingredients": ("Wheat Brown Fresh Dried Salted".split(), "Flour Sugar Butter Raisins Eggs Milk Oats".split()),
}
_WORDS = (
    "lantern meadow whisper pebble voyage anchor basket blanket bottle branch bucket button candle canyon carpet "
    "circle cliff clock cloud compass cottage cradle desert diamond drum eagle engine feather fence flame flower "
    "forest fountain garden glacier hammer harbour hazel helmet island jacket jungle kettle ladder leaf lemon magnet "
    "maple market mirror monkey morning needle ocean orchard paddle palace parrot pencil pepper pillow planet pocket "
    "puzzle rabbit ribbon river rocket saddle shadow shelter shield silver spider spoon stone storm summer temple "
    "thunder ticket tiger tunnel turtle valley velvet village violin window winter wizard"
).split()
_CODE_PAIRS = [first + second for first in "BHMQTVWXZ" for second in "XZWTBQV" if first != second]
_CURRENCY_PAIRS = "US EU JP CH NO GB SE DK PL CA AU NZ BR IN KR SG HK ZA".split()
_CURRENCY_LETTERS = "DRYFKPLC"
_YEARS = (2026, 2027)
_TOP_DOMAIN = "example"  # reserved for this purpose, so every domain ends in it

HELD_OUT: Mapping[str, tuple[Value, ...]] = {
    "place": (
        *("Amber Falls", "Silver Harbour", "Misty Valley", "Golden Bay", "Quiet Lake"),
        *("Northern Port", "Cedar Creek", "Frozen River", "Lucky Island", "Crystal Springs"),
    ),
    "person": ("Maria Lindqvist", "Samuel Okafor", "Yuki Tanabe", "Clara Whitfield"),
    "title": ("Silent Letters", "Winter Dreams", "Crimson Secrets", "Autumn Thieves", "Velvet Shadows"),
    "dish": ("Lentil Soup", "Apple Strudel", "Pumpkin Curry", "Walnut Bread", "Saffron Rice"),
    "venue": ("Blue Teapot", "Grand Palace", "Copper Kettle", "Royal Garden", "Green Lighthouse"),
    "team": ("Coral Rovers", "Sandy Falcons", "Western Wanderers", "Iron Badgers"),
    "league": ("Emerald League", "Ivory Cup", "Southern Division"),
    "word": ("lantern", "meadow", "whisper", "pebble", "voyage"),
    "language": ("Modern Norwegian", "Coastal Portuguese", "Rural Swahili", "Formal Estonian"),
    "email": ("maple@ocean.example", "candle@river.example", "tiger@village.example"),
    "domain": ("harbour.example", "orchard.example", "compass.example"),
    "phone": ("552318", "714963", "938275"),
    "code": ("QX-4821", "BZ-9065", "MW-3174", "HT-6258"),
    "date": ("2026-03-14", "2027-11-28", "2026-08-05", "2027-02-19"),
    "count": (12, 14, 21, 27),
    "amount": (75, 1290, 3655, 4876),
    "currency": ("USD", "EUR", "JPY", "CHF", "NOK"),
}


def sample_value(kind: str, rng: Random) -> Value:
    """Draw a value of `kind` that is not held out."""
    while True:
        value = _SAMPLERS[kind](rng)
        if value not in HELD_OUT.get(kind, ()):
            return value


def lexicon() -> list[str]:
    """Return values that between them have every part that a value can have."""
    names = [f"{one} {two}" for words in _NAMES.values() for one, two in _pairs(*words)]
    words = [f"{word}@{word}.{_TOP_DOMAIN}" for word in _WORDS]
    codes = [f"{pair}-48" for pair in _CODE_PAIRS]
    currencies = [pair + letter for pair in _CURRENCY_PAIRS for letter in _CURRENCY_LETTERS]
    numbers = [*map(str, range(10)), *(f"{pair:02}" for pair in range(100)), *(f"{hour:02}:00" for hour in range(24))]
    dates = [f"{year}-{month:02}-01" for year in _YEARS for month in range(1, 13)]
    return [*names, *words, *codes, *currencies, *numbers, *dates]


def _pairs(ones: list[str], twos: list[str]) -> list[tuple[str, str]]:
    """Return every word of either list in one pair at least."""
    longest = max(len(ones), len(twos))
    return list(islice(zip(cycle(ones), cycle(twos), strict=False), longest))


def _name(kind: str) -> Callable[[Random], Value]:
    ones, twos = _NAMES[kind]
    return lambda rng: f"{rng.choice(ones)} {rng.choice(twos)}"


def _domain(rng: Random) -> str:
    return f"{rng.choice(_WORDS)}.{_TOP_DOMAIN}"


def _email(rng: Random) -> str:
    """Draw an address whose domain is not held out."""
    user = rng.choice(_WORDS)
    domain = str(sample_value("domain", rng))
    return f"{user}@{domain}" if not domain.startswith(user) else _email(rng)


def _pairs_of_digits(rng: Random, count: int) -> str:
    """Draw different pairs, the first without a leading zero."""
    first = rng.randint(10, 99)
    others = rng.sample([pair for pair in range(100) if pair != first], count - 1)
    return f"{first}{''.join(f'{pair:02}' for pair in others)}"


def _date(rng: Random) -> str:
    month, day = rng.randint(1, 12), rng.randint(1, 28)
    return f"{rng.choice(_YEARS)}-{month:02}-{day:02}"


def _clock(rng: Random) -> str:
    return f"{rng.randint(5, 22):02}:{rng.randint(0, 59):02}"


def _amount(rng: Random) -> int:
    return int(_pairs_of_digits(rng, rng.choice((1, 2))))


def _integer(low: int, high: int) -> Callable[[Random], Value]:
    return lambda rng: rng.randint(low, high)


_SAMPLERS: Mapping[str, Callable[[Random], Value]] = {
    **{kind: _name(kind) for kind in _NAMES},
    "word": lambda rng: rng.choice(_WORDS),
    "email": _email,
    "domain": _domain,
    "phone": lambda rng: _pairs_of_digits(rng, 3),
    "code": lambda rng: f"{rng.choice(_CODE_PAIRS)}-{_pairs_of_digits(rng, 2)}",
    "date": _date,
    "count": _integer(2, 40),
    "amount": _amount,
    "currency": lambda rng: rng.choice(_CURRENCY_PAIRS) + rng.choice(_CURRENCY_LETTERS),
    "clock": _clock,
    "degrees": _integer(10, 39),
    "number": _integer(10, 99),
    "year": _integer(1950, 2025),
}
