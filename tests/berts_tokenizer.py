"""A tokenizer as Hugging Face's BERT has it beside its weights, of a few words: special ids that are not ours."""

from pathlib import Path

NAMES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = 0, 2, 3, 4, 5
PIECES = [*NAMES, "good", "bad", "caf", "##e", "x", "[", "]", "mask", "sep"]


def write(path: Path) -> str:
    """Its JSON, which is also written to `path`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([name for name in NAMES if name != "[unused0]"])
    ends = [("[CLS]", CLS), ("[SEP]", SEP)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return tokenizer.to_str()
