"""What counting words says of sentences: the floor that a net of texts must get above.

Wang, Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", 2012, ACL, section 2.1:
multinomial naive Bayes over which words, and which pairs of words side by side, a sentence has, each counted once.
"""

from typing import Any

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from dl_zoo.errors import UserError


def naive_bayes(task: Any, data: Any, *, words: int = 2) -> dict[str, float]:
    """Fractions of the test sentences that are right, fitted on the training ones, by phrases of so many words.

        naive_bayes/1 .. naive_bayes/<words>   with phrases up to this length

    The net has no part in it, nor its vocabulary.

    Raises:
        UserError: data that are no sentences with a class each, or `words` below 1.
    """
    if words < 1:
        raise UserError(f"probe.naive_bayes.words={words}: must be at least 1")
    lines, splits = getattr(data, "lines", {}), getattr(data, "splits", {})
    if not {"train", "test"} <= lines.keys():
        raise UserError("naive_bayes reads sentences, which these data are not; data=movie_reviews or toy_sentiment")
    labels = {name: splits[name][1].cpu().numpy() for name in ("train", "test")}
    found = {}
    for longest in range(1, words + 1):
        counts = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, longest), binary=True)
        model = MultinomialNB().fit(counts.fit_transform(lines["train"]), labels["train"])
        found[f"naive_bayes/{longest}"] = float(model.score(counts.transform(lines["test"]), labels["test"]))
    return found
