SELECT blocked.id, blocked.waits, step.rules IS NOT NULL
FROM json_each(?) AS wanted CROSS JOIN blocked ON blocked.id = wanted.value CROSS JOIN step ON step.id = blocked.id
WHERE blocked.waits > 0
