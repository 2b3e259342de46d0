"""Rule: what programs that the deck starts inherit of its environment: these variables, and no secret of the deck.

Commands of a pipeline come from the corpus' repository, releases from their authors: both print what they are given.
"""

from collections.abc import Mapping

from core.errors import InvalidInput
from core.safety.scrubbing import has_login

PASSED = "QUARTERDECK_PASS_ENVIRONMENT"

# What a program needs to find its files, its language, its libraries and the network. Nobody keeps a secret in these.
_NAMES = frozenset(
    """
    PATH HOME USER LOGNAME SHELL TMPDIR TEMP TMP TERM TZ LANG LANGUAGE
    XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME VIRTUAL_ENV CONDA_PREFIX LD_LIBRARY_PATH
    PYTHONPATH PYTHONUTF8 PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
    CUDA_VISIBLE_DEVICES OMP_NUM_THREADS OMP_WAIT_POLICY TOKENIZERS_PARALLELISM HF_HOME HF_HUB_OFFLINE LANCE_LOG
    DVC_NO_ANALYTICS DVC_SITE_CACHE_DIR DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG
    MLFLOW_TRACKING_URI QUARTERDECK_HOME QUARTERDECK_ENVIRONMENT QUARTERDECK_EMBEDDING_MODEL
    """.split()  # noqa: SIM905
)
_BEGINNINGS = ("LC_", "COMPOSE_")
USUAL_UMASK = 0o022  # files of pipelines and releases are for others too; those of the deck are not
_NEVER = frozenset(
    {
        "QUARTERDECK_COOKIE_SECRET", "QUARTERDECK_GITHUB_SECRET", "QUARTERDECK_OIDC_CLIENT_SECRET",
        "STREAMLIT_SERVER_COOKIE_SECRET",
    }
)  # fmt: skip


def inherit(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a program inherits: the variables of the list that hold no login, and those that the operator names.

    QUARTERDECK_PASS_ENVIRONMENT names them, apart by commas. Raises InvalidInput when it names a secret of the deck.
    """
    passed = list_passed(environ)
    return {
        name: value
        for name, value in environ.items()
        if name in passed or ((name in _NAMES or name.startswith(_BEGINNINGS)) and not has_login(value))
    }


def list_passed(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the names that the operator passes on. Raises InvalidInput for those that open the deck itself."""
    names = frozenset(name.strip() for name in environ.get(PASSED, "").split(",") if name.strip())
    if own := sorted(names & _NEVER):
        raise InvalidInput(PASSED, f"may not name {own[0]}: whoever reads it signs in as anybody")
    return names
