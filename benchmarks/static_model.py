"""Distills the bundled embedding model into a static one, as model2vec does: a real second model, made offline.

Run: `python -m benchmarks.static_model FOLDER [--words FOLDER]`. Each token of the vocabulary is embedded by
the bundled model, the vectors are reduced by principal components and weighted by the token's rank (Zipf), and a text
is the mean of its tokens. sentence-transformers loads the folder like any other model. It takes about a minute, or
seconds with `--words`, when only the tokens of the texts in a folder are embedded.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.embedding.embed import Embedder, check_bundled_weights

DIMENSION = 256
_SIF = 1e-4  # smooth inverse frequency: how fast frequent tokens lose weight


def build_static_model(folder: Path, *, texts: Sequence[str] = (), dimension: int = DIMENSION) -> Path:
    """Write the model into a folder, unless it is there; return the folder.

    With `texts`, only the tokens that they have are embedded, which takes seconds; the others count as nothing.
    """
    if (folder / "modules.json").exists():
        return folder
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from sklearn.decomposition import PCA
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(check_bundled_weights() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    met = {at for each in tokenizer.encode_batch(list(texts)) for at in each.ids} if texts else set(range(len(tokens)))
    kept = sorted(at for at in met if not (len(tokens[at]) > 2 and tokens[at][0] == "[" and tokens[at][-1] == "]"))
    rows = Embedder().embed([tokens[at].removeprefix("##") for at in kept])
    shares = 1 / np.arange(2, len(tokens) + 2)  # the vocabulary is sorted by frequency
    weights = _SIF / (_SIF + shares / shares.sum())
    table = np.zeros((len(tokens), dimension), dtype=np.float32)
    table[kept] = PCA(n_components=dimension, random_state=0).fit_transform(rows) * weights[kept, None]
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu").save(str(folder))
    return folder


def list_texts(folder: Path) -> list[str]:
    """Return the texts of all Markdown, reStructuredText and plain files below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in (".md", ".rst", ".txt") and path.is_file())
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--words", type=Path, help="a folder of texts: tokens that they do not have count as nothing")
    options = parser.parse_args()
    print(build_static_model(options.folder, texts=list_texts(options.words) if options.words else ()))


if __name__ == "__main__":
    main()
