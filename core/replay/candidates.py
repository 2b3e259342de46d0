"""Rule: what is replayed against what is live: an index, an embedding model, a chunking, a reranker, a prompt, a chain.

`staging.py` makes what can be searched of it, `replaying.py` asks the questions.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from core.errors import InvalidInput
from core.prompts.prompts import Prompt

BM25 = "bm25"
LEAST_CHARACTERS, MOST_CHARACTERS = 100, 10_000


@dataclass(frozen=True, slots=True)
class ReplayCandidate:
    """A chain of changes that go live together; "" and None leave a part as it is live.

    `index` is a registered index. `documents` is a corpus version or a folder that is cut and embedded for the replay,
    `characters` the largest passage it is cut into, `model` an embedding model. `reranker` is `bm25` or the address of
    a server; it orders the first `depth` hits anew. `prompt` answers the questions. Raises InvalidInput for a chain
    that changes nothing, an index whose documents are cut anew, and passages of an odd size.
    """

    index: str = ""
    documents: str = ""
    characters: int | None = None
    model: str = ""
    reranker: str = ""
    depth: int = 30
    prompt: Prompt | None = None

    def __post_init__(self) -> None:
        check_reranker(self.reranker)
        if not self.changes:
            raise InvalidInput(
                "candidate", "give an index, or one of documents, characters, embedding model, reranker and prompt"
            )
        if self.characters is not None and not LEAST_CHARACTERS <= self.characters <= MOST_CHARACTERS:
            problem = f"must be {LEAST_CHARACTERS} to {MOST_CHARACTERS:,}, not {self.characters:,}"
            raise InvalidInput("characters", problem)
        if self.index and self.documents:
            raise InvalidInput("documents", f"{self.index} has its documents; give one of the two")

    @property
    def changes(self) -> tuple[str, ...]:
        """What changes, one name each, in the order in which it acts."""
        return tuple(
            name
            for name in (
                self.index,
                f"documents {_last(self.documents)}" if self.documents else "",
                f"passages of {self.characters}" if self.characters is not None else "",
                f"model {name_model(self.model)}" if self.model else "",
                f"reranker {name_reranker(self.reranker)}" if self.reranker else "",
                f"prompt {self.prompt.label}" if self.prompt else "",
            )
            if name
        )

    @property
    def name(self) -> str:
        """The name of the chain. No index has one with a space, so it is no other's."""
        return " + ".join(self.changes)

    @property
    def is_staged(self) -> bool:
        """Whether an index has to be built for the replay: there is none with these passages and vectors."""
        return bool(self.documents or self.model or self.characters is not None)

    @property
    def changes_search(self) -> bool:
        """Whether searches can find something else."""
        return bool(self.index or self.is_staged or self.reranker)

    def name_claim(self, alias: str) -> str:
        """Return the change of the timeline that a prediction of this chain is about: the index that goes live.

        Raises InvalidInput where no index does: say with `about` what will announce itself.
        """
        if self.index and not self.is_staged and not self.reranker:
            return f"version:{self.index}"
        if self.is_staged:
            return f"index:{alias}"
        raise InvalidInput("about", "no index goes live here; name the change to come, such as deployment:answers")


def check_reranker(name: str) -> None:
    """Raise InvalidInput unless a reranker is none, `bm25`, or an address, which may hold a secret: not repeated."""
    if not name or name == BM25:
        return
    try:
        parts = urlsplit(name)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not all("!" <= letter <= "~" for letter in name):
        raise InvalidInput("reranker", f"must be {BM25}, or the http address of a reranking server")
    if "@" in parts.netloc:
        raise InvalidInput("reranker", "must have no password in its address; its key is QUARTERDECK_RERANKER_KEY")


def name_reranker(reranker: str) -> str:
    """Return a reranker's short name: of an address its host and path, without anything that may be secret.

    >>> name_reranker("https://rank.example.org/v2/rerank?key=1"), name_reranker("bm25")
    ('rank.example.org/v2/rerank', 'bm25')
    """
    parts = urlsplit(reranker)
    return f"{parts.hostname}{parts.path}" if parts.hostname else reranker


def name_model(model: str) -> str:
    """Return a model's short name: a folder's last part.

    >>> name_model("/srv/models/static-256/")
    'static-256'
    """
    return _last(model) or model


def _last(path: str) -> str:
    """Return the last part of a path."""
    return path.rstrip("/").rpartition("/")[2]
