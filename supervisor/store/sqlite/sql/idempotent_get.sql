SELECT idempotent.key, idempotent.id
FROM json_each(?2) AS wanted CROSS JOIN idempotent ON idempotent.queue = ?1 AND idempotent.key = wanted.value
