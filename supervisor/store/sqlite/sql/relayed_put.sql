INSERT OR REPLACE INTO relayed (instance, id, digest, job) VALUES (?1, ?2, ?3, ?4)
