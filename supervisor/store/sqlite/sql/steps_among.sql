SELECT id, flow, kind, skipped, tolerated FROM step WHERE id IN (SELECT value FROM json_each(?))
