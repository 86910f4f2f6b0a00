"""Text to hide things in: one line said again and again, and essays that nobody wrote.

None of it holds a digit or a hyphen, so that a number or a name in it was put there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice

NOISE = "The rain is light. The fields are wide. The bell is old. On we walk. Over the hill and home again."

SENTENCES = (
    "{when}, {who} used to speak of {craft} as if nothing else were worth the trouble.",
    "People suppose that {craft} is a matter of {virtue}, but I have come to think that {virtue} counts for more.",
    "I once asked {who} what {craft} had taught them, and the answer was a long silence.",
    "There was a {thing} {place}, and nobody could say who had left it there.",
    "{who} kept a {thing} {place} and looked at it {when}.",
    "The trouble with {craft} is that it {lesson}.",
    "What surprised me most about {craft} was how {how} it had to be done.",
    "If {virtue} could be bought, {who} said, it would be sold {place} beside the {thing}.",
    "It took years of {craft} before anyone noticed that it {lesson}.",
    "We walked {how} until we found the {thing} {place}.",
    "A {thing} is only as good as the {virtue} of whoever repairs it.",
    "{when}, the whole street smelled of rain, and {who} went back to {craft}.",
    "Some learn {craft} from books; {who} learned it from a broken {thing}.",
    "Nobody writes about the {thing}, perhaps because it {lesson}.",
    "I do not believe that {craft} and {craft} have much in common, yet both ask for {virtue}.",
    "The best argument for {virtue} that I know is a {thing} that still works.",
    "{who} disagreed {how}, and then agreed {how}, which is the usual order of things.",
    "Every town has somebody who is known for {craft} and somebody who is known for {virtue}.",
    "When the {thing} broke, we blamed the weather, and {when} we blamed each other.",
    "You can tell a great deal about {who} from the way a {thing} is put away.",
    "My first attempt at {craft} ended {place}, with a {thing} and very little {virtue}.",
    "It is easy to praise {virtue} and hard to practise it {place} {when}.",
    "They told us that {craft} {lesson}, and for once they were right.",
    "The {thing} stood {place} for so long that birds nested in it.",
    "Without {virtue}, {craft} becomes a way of passing the time.",
    "{who} never mentioned the {thing} again, but {when} it was gone.",
    "Between {craft} and {craft} lies an afternoon that nobody remembers.",
    "I have tried to explain this to {who}, {how} and at some length.",
    "A friend of {who} carried the {thing} home {how}, past the houses {place}.",
    "What we call {virtue} is often only a habit of {craft} {when}.",
    "Somewhere {place} there is still a {thing} with our names scratched into it.",
    "Ask {who} about {craft} and you will hear about {virtue} instead.",
)

SLOTS = {
    "who": """my grandmother|the ferryman|a retired clockmaker|the new teacher|our neighbour|the postman|a travelling
        dentist|the choir master|my older brother|the woman from the bakery|an honest lawyer|the night porter|his
        aunt|the beekeeper|a former judge|the youngest apprentice|the mayor|the man who sold maps|her cousin|the
        librarian|a patient doctor|the gardener|two students from the coast|the carpenter""",
    "craft": """mending nets|baking bread|tuning pianos|keeping bees|teaching children|drawing maps|binding books|
        repairing clocks|growing roses|building walls|writing letters|sailing small boats|learning languages|painting
        doors|telling stories|cutting glass|raising sheep|playing chess|sharpening knives|weaving cloth|singing in
        tune|brewing tea|reading the sky|making cheese""",
    "thing": """kettle|ladder|wheel|notebook|lamp|bench|radio|suitcase|clock|barometer|table|mirror|coat|rope|bell|
        drum|basin|compass|teapot|lantern|cupboard|bicycle|telescope|wardrobe""",
    "place": """behind the station|near the old mill|by the river|under the stairs|at the edge of the village|in the
        back of the shop|beside the chapel|at the end of the pier|in the attic|below the castle|outside the
        theatre|across the square|along the canal|in the kitchen|on the roof|next to the school|beyond the
        orchard|between two gardens""",
    "virtue": """patience|curiosity|courage|good humour|modesty|attention|honesty|discipline|generosity|restraint|
        imagination|loyalty|common sense|kindness|stubbornness|thrift|tact|hope""",
    "when": """in early spring|on market days|after the harvest|late at night|before the storm|every winter|on Sunday
        mornings|at the end of the summer|when the lights went out|in those years|the following week|long
        afterwards|during the holidays|once the guests had left|at the first frost|around noon""",
    "how": """slowly|without complaint|with great care|almost by accident|in silence|badly at first|as quietly as
        possible|with some regret|for the second time|by candlelight|against all advice|rather proudly|in a single
        afternoon|step by step""",
    "lesson": """rewards those who wait|cannot be hurried|looks simpler than it is|never pays the rent|makes poor
        company|asks for more than it gives|is best done with friends|leaves no trace|improves with age|takes up the
        whole house|hides its own mistakes|depends on the weather""",
}

_OPTIONS = {name: " ".join(text.split()).replace("| ", "|").split("|") for name, text in SLOTS.items()}


def noise(count: int) -> list[str]:
    """The same line, so many times."""
    return [NOISE] * count


def essay(rng: random.Random, count: int) -> list[str]:
    """Sentences of an essay; those of a longer one from the same state begin with these."""
    return list(islice(_sentences(rng), count))


def _sentences(rng: random.Random) -> Iterator[str]:
    while True:
        for template in rng.sample(SENTENCES, len(SENTENCES)):
            yield _filled(rng, template)


def _filled(rng: random.Random, template: str) -> str:
    used: set[str] = set()

    def choose(slot: re.Match[str]) -> str:
        options = [option for option in _OPTIONS[slot[1]] if option not in used]
        used.add(chosen := rng.choice(options))
        return chosen

    text = re.sub(r"\{(\w+)\}", choose, template)
    return text[0].upper() + text[1:]
