"""Gateway to the bearer tokens in the store, without their secrets. `credentials.py` issues and revokes them."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from core.access.scopes import Token, read_scopes
from core.errors import NotFound
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.schema import token_owners, tokens
from quarterdeck.store import Store


def list_tokens(store: Store) -> tuple[Token, ...]:
    """Return every token by name, including revoked and expired ones."""
    with store.read() as connection:
        return tuple(_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.name)).mappings())


def get_token(store: Store, name: str) -> Token:
    """Return one token. Raises NotFound, listing the existing ones."""
    for token in (known := list_tokens(store)):
        if token.name == name:
            return token
    raise NotFound(f"token: there is no token {name!r}; there are: {', '.join(each.name for each in known) or 'none'}")


def find_by_digest(store: Store, digest: str) -> Token | None:
    """Return the token whose secret has this digest, None if there is none."""
    with store.read() as connection:
        row = connection.execute(select(tokens).where(tokens.c.digest == digest)).mappings().first()
    return _token(row) if row else None


def save_token(connection: Connection, token: Token, *, instead_of: Token | None) -> None:
    """Add a token, replacing a former one with the same name."""
    if instead_of:
        connection.execute(delete(tokens).where(tokens.c.digest == instead_of.digest))
    connection.execute(
        insert(tokens).values(
            name=token.name, digest=token.digest, hint=token.hint, scopes=" ".join(token.scopes),
            environment=token.environment, created_ms=to_ms(token.created), created_by=token.created_by,
            expires_ms=to_ms(token.expires) if token.expires else None, services=" ".join(token.services),
        )
    )  # fmt: skip


def save_owner(connection: Connection, token: Token, owner: str) -> None:
    """Keep the person who made a token after signing in; the token acts for them."""
    connection.execute(insert(token_owners).values(digest=token.digest, owner=owner))


def find_owner(store: Store, token: Token) -> str | None:
    """Return the person for whom a token acts; None for one that was made without a sign-in."""
    return find_person(store, token.digest)


def find_person(store: Store, digest: str) -> str | None:
    """Return the person for whom the token of a digest acts, as `find_owner` does."""
    with store.read() as connection:
        return connection.scalar(select(token_owners.c.owner).where(token_owners.c.digest == digest))


def mark_revoked(connection: Connection, token: Token, *, revoked_ms: int) -> bool:
    """Revoke exactly this token; False if somebody else revoked or replaced it first."""
    same = (tokens.c.name == token.name, tokens.c.digest == token.digest, tokens.c.revoked_ms.is_(None))
    return connection.execute(update(tokens).where(*same).values(revoked_ms=revoked_ms)).rowcount == 1


def _token(row: Any) -> Token:
    return Token(
        row["name"], row["digest"], row["hint"], read_scopes(row["scopes"].split()), row["environment"],
        from_ms(row["created_ms"]), row["created_by"],
        from_ms(row["expires_ms"]) if row["expires_ms"] is not None else None,
        from_ms(row["revoked_ms"]) if row["revoked_ms"] is not None else None,
        tuple(row["services"].split()),
    )  # fmt: skip
