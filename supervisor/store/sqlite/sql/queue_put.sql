UPDATE queue SET paused = ?2, clock = ?3, ranking = ?4, rerank_after = ?5, rerank_until = ?6 WHERE id = ?1
