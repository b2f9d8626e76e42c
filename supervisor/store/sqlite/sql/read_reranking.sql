SELECT name, rerank_after, rerank_until FROM queue WHERE rerank_after IS NOT NULL
