UPDATE blocked SET waits = CASE WHEN counted.value < 0 THEN 0 ELSE max(waits - counted.value, 0) END
FROM json_each(?) AS counted WHERE blocked.id = CAST(counted.key AS INTEGER) AND blocked.waits > 0
RETURNING blocked.id, blocked.waits
