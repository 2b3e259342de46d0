"""Rule: what instrumentations call things: attributes of OpenInference, OpenTelemetry's GenAI conventions, and others.

A tuple lists the names of one thing, the most specific first.
"""

RETRIEVER, STORE, RERANKER, MODEL, EMBEDDING, CHAIN = "retriever", "store", "reranker", "model", "embedding", "chain"

# The attribute that names a span's kind, and which of its values is what. Values are compared in lower case.
KINDS = {
    "openinference.span.kind": {
        "retriever": RETRIEVER, "reranker": RERANKER, "llm": MODEL, "embedding": EMBEDDING, "chain": CHAIN,
        "agent": CHAIN, "tool": CHAIN,
    },
    "gen_ai.operation.name": {
        "retrieval": RETRIEVER, "retrieve": RETRIEVER, "retriever": RETRIEVER, "vector_db_retrieve": RETRIEVER,
        "rerank": RERANKER, "reranking": RERANKER, "chat": MODEL, "text_completion": MODEL, "generate_content": MODEL,
        "completion": MODEL, "embeddings": EMBEDDING, "embedding": EMBEDDING, "invoke_agent": CHAIN,
        "invoke_workflow": CHAIN, "execute_task": CHAIN, "execute_tool": CHAIN, "framework": CHAIN, "workflow": CHAIN,
        "vectordb": STORE,
    },
    "mlflow.spanType": {
        "retriever": RETRIEVER, "reranker": RERANKER, "llm": MODEL, "chat_model": MODEL, "embedding": EMBEDDING,
        "chain": CHAIN, "agent": CHAIN, "tool": CHAIN, "workflow": CHAIN,
    },
    "langfuse.observation.type": {
        "retriever": RETRIEVER, "generation": MODEL, "embedding": EMBEDDING, "span": CHAIN, "chain": CHAIN,
        "agent": CHAIN, "tool": CHAIN,
    },
    "langsmith.span.kind": {
        "retriever": RETRIEVER, "llm": MODEL, "embedding": EMBEDDING, "chain": CHAIN, "agent": CHAIN, "tool": CHAIN,
    },
    "llm.request.type": {"chat": MODEL, "completion": MODEL, "embedding": EMBEDDING, "rerank": RERANKER},
    "traceloop.span.kind": {"workflow": CHAIN, "task": CHAIN, "agent": CHAIN, "tool": CHAIN},
}  # fmt: skip

# Databases of vectors alone: their queries are retrievals. Others are recognized by attributes that begin `db.vector.`.
VECTOR_STORES = frozenset({
    "chroma", "chromadb", "pinecone", "qdrant", "milvus", "weaviate", "lancedb", "marqo", "astra", "vespa",
})  # fmt: skip
STORE_SYSTEMS = ("db.system.name", "db.system")
STORE_OPERATIONS = ("db.operation.name", "db.operation")
STORE_READS = ("query", "search", "retriev", "hybrid", "near")
STORE_WRITES = ("insert", "upsert", "add", "delete", "update", "create", "get_collection", "modify", "count", "peek")

QUERIES = (
    "gen_ai.retrieval.query.text", "gen_ai.retrieval.query", "retrieval.query", "reranker.query", "query.text",
    "db.vector.query.text",
)  # fmt: skip
INPUTS = (
    "input.value", "traceloop.entity.input", "gen_ai.task.input", "mlflow.spanInputs", "langfuse.observation.input",
    "gen_ai.input.messages", "gen_ai.prompt", "langfuse.trace.input", "gen_ai.content.prompt",
    "gen_ai.workflow.input", "embedding.embeddings.0.embedding.text", "embedding.text", "gen_ai.prompt.0.content",
)  # fmt: skip
PLAIN_INPUTS = frozenset({"input.value", *QUERIES})  # text, unless `input.mime_type` says JSON
OUTPUTS = (
    "output.value", "traceloop.entity.output", "gen_ai.task.output", "mlflow.spanOutputs",
    "langfuse.observation.output", "gen_ai.output.messages", "gen_ai.completion", "langfuse.trace.output",
    "gen_ai.content.completion", "gen_ai.workflow.output",
)  # fmt: skip
DOCUMENTS = ("gen_ai.retrieval.documents", "retrieval.documents", "reranker.output_documents", "documents")
COUNTS = ("gen_ai.retrieval.document_count", "db.response.returned_rows")
HIDDEN = frozenset({"__REDACTED__", "[REDACTED]", "<redacted>"})

SESSIONS = (
    "session.id", "gen_ai.conversation.id", "langfuse.session.id", "mlflow.trace.session",
    "traceloop.association.properties.session_id", "traceloop.association.properties.conversation_id",
    "traceloop.association.properties.thread_id", "traceloop.association.properties.chat_id",
    "langsmith.metadata.session_id", "langsmith.metadata.thread_id", "langsmith.metadata.conversation_id",
    "langfuse.trace.metadata.langfuse_session_id", "session_id", "thread_id", "conversation_id",
)  # fmt: skip
USERS = (
    "user.id", "enduser.id", "langfuse.user.id", "mlflow.trace.user", "traceloop.association.properties.user_id",
    "langsmith.metadata.user_id", "langfuse.trace.metadata.langfuse_user_id", "gen_ai.user.id", "user_id",
)  # fmt: skip
PROMPT_VERSIONS = (
    "gen_ai.prompt.version", "llm.prompt_template.version", "langfuse.observation.prompt.version",
    "langfuse.prompt.version", "traceloop.prompt.version", "traceloop.prompt.version_name",
)  # fmt: skip
EMBEDDING_MODELS = ("embedding.model_name", "gen_ai.embeddings.model", "gen_ai.response.model", "gen_ai.request.model",
                    "langfuse.observation.model.name", "llm.model_name")  # fmt: skip
ENVIRONMENTS = ("deployment.environment.name", "deployment.environment", "langfuse.environment")

TOKENS = ("llm.token_count.total", "gen_ai.usage.total_tokens", "llm.usage.total_tokens")
TOKENS_IN = ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens")
TOKENS_OUT = ("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens")
USAGES = ("langfuse.observation.usage_details", "mlflow.chat.tokenUsage")
COSTS = ("gen_ai.usage.cost", "llm.cost.total", "gen_ai.cost.total", "gen_ai.usage.total_cost")
COST_DETAILS = ("langfuse.observation.cost_details", "mlflow.llm.cost")

# Attributes whose end is a name of the service's own, such as the tenant.
OWN_ATTRIBUTES = (
    "quarterdeck.attributes.", "traceloop.association.properties.", "langfuse.trace.metadata.",
    "langfuse.observation.metadata.", "langsmith.metadata.",
)  # fmt: skip
FRAMEWORKS_OWN = (
    "ls_",
    "lc_",
    "langgraph_",
    "langfuse_",
    "LANGSMITH_",
    "LANGCHAIN_",
    "checkpoint_",
    "is_langchain_",
    "resourceAttributes",
    "scope",
    "revision_id",
    "__",
)  # written by frameworks, not services
NOT_ATTRIBUTES = frozenset({"tags", "session_id", "user_id", "thread_id", "conversation_id", "chat_id"})

# What a document's own number is called, and what kind it is; "" is to be found out.
NUMBERS = {
    "score": "", "similarity": "", "similarity_score": "", "_score": "", "query_similarity_score": "cosine",
    "cosine_similarity": "cosine", "certainty": "probability", "probability": "probability",
    "distance": "distance", "_distance": "distance", "vector_distance": "distance", "dist": "distance",
    "vector_score": "distance",
    "cosine_distance": "cosine_distance", "l2_distance": "l2",
    "@search.score": "dot", "vectorSearchScore": "dot",  # Azure's and MongoDB's: of one scale, but no cosine
    "bm25": "bm25", "bm25_score": "bm25", "rrf": "rrf", "rrf_score": "rrf", "fusion_score": "rrf",
    "relevance_score": "rerank", "rerank_score": "rerank", "reranker_score": "rerank",
    "cross_encoder_score": "rerank", "reranking_score": "rerank", "_relevance_score": "rerank",
    "@search.reranker_score": "rerank", "@search.rerankerScore": "rerank",
}  # fmt: skip
IDS = ("id", "document_id", "doc_id", "node_id", "id_", "_id", "point_id")
METADATA_IDS = (
    "id", "doc_id", "document_id", "doc_uri", "source", "file", "file_name", "file_path", "filename", "url", "path",
    "title",
)  # fmt: skip
TEXTS = ("page_content", "content", "text", "document", "passage", "long_text", "body", "snippet")
QUERY_NAMES = (
    "query", "question", "query_str", "search_query", "query_text", "str_or_query_bundle", "user_input", "user_query",
    "input", "text", "prompt", "message", "q", "query_texts",
)  # fmt: skip
WRAPPERS = ("query_bundle", "inputs", "input", "kwargs", "args", "data", "request", "params", "arguments", "messages")
