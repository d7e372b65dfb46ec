"""The floor for taggers: each word has the tag that it had most often, whatever stands around it.

Charniak, Hendrickson, Jacobson, Perkowitz, "Equations for Part-of-Speech Tagging", 1993, AAAI: 90 % of English words
are right so. A word, in lower case where the data's lexicon looks it up so, takes its most frequent tag of training, of
equals the one met first; a word that training never shows takes the most frequent tag of all.
"""

from collections import Counter, defaultdict
from typing import Any

from dl_zoo.errors import UserError


def most_frequent_tag(task: Any, data: Any) -> dict[str, float]:
    """On the test sentences, as fractions of the words that have a tag. The net has no part in it.

        most_frequent_tag           right
        most_frequent_tag/unknown   words that training never shows

    Raises:
        UserError: data that are no sentences with tags.
    """
    said = getattr(data, "said", None)
    if not said:
        raise UserError("most_frequent_tag: it reads sentences with tags, which these data are not; take data=conllu")
    of_word: dict[str, Counter[str]] = defaultdict(Counter)
    of_all: Counter[str] = Counter()
    for form, tag in tagged(data, "train"):
        of_word[form][tag] += 1
        of_all[tag] += 1
    otherwise = of_all.most_common(1)[0][0]
    guess = {form: tags.most_common(1)[0][0] for form, tags in of_word.items()}  # of equals the first counted
    test = tagged(data, "test")
    right = sum(guess.get(form, otherwise) == tag for form, tag in test)
    unknown = sum(form not in guess for form, _ in test)
    return {"most_frequent_tag": right / len(test), "most_frequent_tag/unknown": unknown / len(test)}


def tagged(data: Any, split: str) -> list[tuple[str, str]]:
    """Its words, as the lexicon looks them up, with their tags."""
    pairs = (pair for words, tags in data.said[split] for pair in zip(words, tags, strict=True))
    return [(data.lexicon.form(word), tag) for word, tag in pairs if tag]
