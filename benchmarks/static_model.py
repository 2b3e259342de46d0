"""Distills the bundled embedding model into a static one, as model2vec does: a real second model, made offline.

Run: `python -m benchmarks.static_model FOLDER`. Each token of the vocabulary is embedded by the bundled model, the
vectors are reduced by principal components and weighted by the token's rank (Zipf), and a text is the mean of its
tokens. sentence-transformers loads the folder like any other model. About a minute on an idle processor.
"""

import argparse
from pathlib import Path

import numpy as np

from core.embedding.embed import Embedder, check_bundled_weights

DIMENSION = 256
_SIF = 1e-4  # smooth inverse frequency: how fast frequent tokens lose weight


def build_static_model(folder: Path, *, dimension: int = DIMENSION) -> Path:
    """Write the model into a folder, unless it is there; return the folder."""
    if (folder / "modules.json").exists():
        return folder
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from sklearn.decomposition import PCA
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(check_bundled_weights() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    rows = Embedder().embed(list(dict.fromkeys(token.removeprefix("##") for token in tokens)))
    by_text = dict(zip(dict.fromkeys(token.removeprefix("##") for token in tokens), rows, strict=True))
    reduced = PCA(n_components=dimension, random_state=0).fit_transform(
        np.stack([by_text[token.removeprefix("##")] for token in tokens])
    )
    shares = 1 / np.arange(2, len(tokens) + 2)  # the vocabulary is sorted by frequency
    weights = _SIF / (_SIF + shares / shares.sum())
    table = (reduced * weights[:, None]).astype(np.float32)
    table[
        [at for at, token in enumerate(tokens) if token.startswith("[") and token.endswith("]") and len(token) > 2]
    ] = 0
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu").save(str(folder))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    print(build_static_model(parser.parse_args().folder))


if __name__ == "__main__":
    main()
