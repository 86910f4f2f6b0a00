"""Scores of what a model wrote, as RULER counts them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def string_match_all(prediction: str, answers: Sequence[str]) -> float:
    """Share of the answers that the prediction names, in any case: 0 to 100.

    It cannot fall as a prediction grows: one that has reached 100 need not be continued.
    """
    text = cleaned(prediction).lower()
    return 100.0 * sum(answer.lower() in text for answer in answers) / len(answers)


def cleaned(prediction: str) -> str:
    """Without space around it, control characters (0x00 to 0x1f) turned into line ends."""
    return re.sub(r"[\x00-\x1f]", "\n", prediction.strip()).strip()
