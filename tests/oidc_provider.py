"""A real OpenID provider for tests, built on Authlib: code flow with PKCE and nonce, signed tokens, end of session.

Everybody in `PEOPLE` signs in by pressing their name. It serves on a free port of this machine, in a thread.
"""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6749.models import AuthorizationCodeMixin, ClientMixin
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from flask import Flask, Response, jsonify, redirect, request
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

CLIENT_ID, CLIENT_SECRET = "quarterdeck", "the-secret-of-this-client-never-shown"
PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"email": "ada@example.org", "email_verified": True, "groups": ["rag-team"]},
    "eve": {"email": "eve@example.org", "email_verified": True, "groups": []},
    "mallory": {"email": "ada@example.org", "email_verified": False, "groups": ["rag-team"]},
}


@dataclass
class Provider:
    """A running provider: where it is, and which sign-outs reached it."""

    address: str
    signed_out: list[str] = field(default_factory=list)

    @property
    def metadata_url(self) -> str:
        return f"{self.address}/.well-known/openid-configuration"


class _Client(ClientMixin):
    def __init__(self, redirect_uris: set[str]) -> None:
        self.redirect_uris = redirect_uris

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class _Code(AuthorizationCodeMixin):
    code: str
    user: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None
    auth_time: int

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return self.auth_time

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@contextmanager
def run_provider(redirect_uri: str) -> Iterator[Provider]:
    """Run a provider that knows one client, with this redirect address."""
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    app = Flask(__name__)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    _equip(app, provider, _Client({redirect_uri}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _equip(app: Flask, provider: Provider, client: _Client) -> None:
    key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
    codes: dict[str, _Code] = {}
    server = AuthorizationServer(
        app, query_client=lambda client_id: client if client_id == CLIENT_ID else None, save_token=lambda *_: None
    )

    class CodeGrant(AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic",)

        def save_authorization_code(self, code: str, asked: Any) -> None:
            data = asked.payload.data
            codes[code] = _Code(
                code, asked.user, asked.payload.redirect_uri, asked.payload.scope, data.get("nonce"),
                data.get("code_challenge"), data.get("code_challenge_method"), int(time.time()),
            )  # fmt: skip

        def query_authorization_code(self, code: str, _client: Any) -> _Code | None:
            return codes.get(code)

        def delete_authorization_code(self, code: _Code) -> None:
            codes.pop(code.code, None)

        def authenticate_user(self, code: _Code) -> str:
            return code.user

    class Claims(OpenIDCode):
        def exists_nonce(self, nonce: str, _asked: Any) -> bool:
            return any(code.nonce == nonce for code in codes.values())

        def resolve_client_private_key(self, _client: Any) -> RSAKey:
            return key

        def get_encode_header(self, _client: Any) -> dict[str, str]:
            return {"alg": "RS256", "kid": "one"}

        def get_client_claims(self, _client: Any) -> dict[str, Any]:
            return {"iss": provider.address, "aud": [CLIENT_ID], "sid": secrets.token_hex(8)}

        def generate_user_info(self, user: str, _scope: str) -> UserInfo:
            return UserInfo(sub=user, **PEOPLE[user])

    server.register_grant(CodeGrant, [Claims(require_nonce=True), CodeChallenge(required=True)])

    @app.get("/.well-known/openid-configuration")
    def metadata() -> Response:
        at = provider.address
        return jsonify(
            issuer=at, authorization_endpoint=f"{at}/authorize", token_endpoint=f"{at}/token", jwks_uri=f"{at}/jwks",
            end_session_endpoint=f"{at}/logout", response_types_supported=["code"],
            subject_types_supported=["public"], id_token_signing_alg_values_supported=["RS256"],
            code_challenge_methods_supported=["S256"], token_endpoint_auth_methods_supported=["client_secret_basic"],
        )  # fmt: skip

    @app.get("/jwks")
    def jwks() -> Response:
        return jsonify(keys=[key.as_dict(private=False)])

    @app.route("/authorize", methods=["GET", "POST"])
    def authorize() -> Any:
        grant = server.get_consent_grant(end_user=None)
        if request.method == "POST":
            return server.create_authorization_response(grant_user=request.form["person"], grant=grant)
        buttons = "".join(f'<button name="person" value="{name}">{name}</button>' for name in PEOPLE)
        return f'<form method="post">{buttons}</form>'

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/logout")
    def logout() -> Any:
        provider.signed_out.append(request.args.get("id_token_hint", ""))
        return redirect(request.args["post_logout_redirect_uri"])
