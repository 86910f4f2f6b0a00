"""Words, names, numbers and identifiers to hide and to count: no answer contains another."""

from __future__ import annotations

import random
import uuid


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """
    amber ancient autumn bitter brave breezy bright brisk bronze calm careful cheerful clever coastal copper cosy
    crimson curious curly dainty daring dusty eager early earnest elegant faded faithful fancy fearless flat fluffy
    foggy fragile frosty gentle giant glossy graceful grand grateful hasty hollow honest humble hungry idle jolly
    kind lively lonely loyal lucky marble mellow merry mighty misty modest muddy narrow nimble noble northern olive
    orange pale patient playful polite proud purple quaint quick quiet rapid rare restless ripe robust rosy royal
    rusty sandy scarlet shiny shy silent silver simple sincere sleepy slender smooth sober solid southern sparkling
    spicy steady stormy stout strange sturdy sunny sweet swift tame tender thirsty thorough tidy timid tiny tranquil
    tropical upright urban useful vacant velvet violet vivid wandering warm weary western wild windy wise wooden
    yellow young zesty
    """
)

NOUNS = _words(
    """
    acrobat anchor angel apron avenue badger bakery balcony balloon bamboo banjo barrel basket beacon beaver
    bicycle biscuit blanket blossom bottle bridge broom bucket buffalo butterfly button cabbage cabin cactus camera
    candle canyon captain caravan carpet castle cathedral cellar ceramic cherry chimney circus cliff clover cobbler
    coconut compass cottage cradle crayon cricket crystal cushion dagger daisy desert diamond dolphin donkey dragon
    drawer drummer eagle easel elbow elephant emerald engine envelope falcon farmer feather fiddle flute forest
    fountain fox galaxy garden garlic geese ginger giraffe glacier goblet gondola granite guitar hammer hammock harbour
    hazel hedge helmet heron hive honey island ivory jacket jaguar jasmine jewel jungle kettle kitten knight ladder
    lagoon lantern lawyer lemon leopard library lily lizard lobster locket magnet mango maple market meadow melon
    mirror mitten monkey mosaic mountain muffin museum mushroom napkin needle nephew notebook oasis ocean orchard
    orchid otter oyster paddle painter palace panther parcel parrot pasture peanut pebble pelican pencil penguin
    pepper piano pigeon pillow pilot planet pocket pony poppy potato prairie pumpkin puppet pyramid quarry quilt rabbit
    raccoon radish raven ribbon river rocket saddle sailor salmon sandal satchel scarf scissors shadow shepherd
    shovel sparrow spider spoon squirrel stable statue summit sunrise swan tailor teapot temple thimble thunder ticket
    tiger timber tobacco tomato tortoise tower tractor trumpet tulip tunnel turtle umbrella valley village violin
    volcano waffle wagon walnut walrus whistle widow willow window wizard zebra
    """
)

PLAIN = NOUNS + ADJECTIVES

_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aeiou"


def names(rng: random.Random, count: int) -> list[str]:
    """Different names such as ``misty-harbour``.

    Raises:
        ValueError: there are not as many.
    """
    first, second = len(ADJECTIVES), len(NOUNS)
    most = first * second
    if count > most:
        raise ValueError(f"context: expected one that needs at most {most} different names, got {count}")
    return [f"{ADJECTIVES[at % first]}-{NOUNS[at // first]}" for at in rng.sample(range(most), count)]


def numbers(rng: random.Random, count: int, digits: int) -> list[str]:
    """Different numbers of so many digits."""
    return [str(number) for number in rng.sample(range(10 ** (digits - 1), 10**digits), count)]


def uuids(rng: random.Random, count: int) -> list[str]:
    """Random identifiers (version 4), different but for a chance of 2^-122 a pair."""
    return [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(count)]


def coded(rng: random.Random, count: int, pattern: str) -> list[str]:
    """Different pronounceable words that mean nothing: `pattern` is of c for consonants and v for vowels.

    None is, contains or lies in one of the plain words.
    """
    found: dict[str, None] = {}
    while len(found) < count:
        word = "".join(rng.choice(_CONSONANTS if kind == "c" else _VOWELS) for kind in pattern)
        if not _resembles_plain(word):
            found[word] = None
    return list(found)


def plain(rng: random.Random, count: int) -> list[str]:
    """Different ordinary words, and coded ones behind them where those do not suffice."""
    ordinary = rng.sample(PLAIN, len(PLAIN))
    return ordinary[:count] + coded(rng, count - len(ordinary), "cvcvcv")


def _resembles_plain(word: str) -> bool:
    parts = (word[start:end] for start in range(len(word)) for end in range(start + 2, len(word) + 1))
    return word in _ALL_PLAIN or any(part in _PLAIN for part in parts)


_PLAIN = frozenset(PLAIN)
_ALL_PLAIN = " ".join(PLAIN)
