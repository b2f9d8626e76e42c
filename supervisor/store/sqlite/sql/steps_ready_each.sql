INSERT INTO ready (lane, band, pos, id, mark)
SELECT job.lane, ?1, ?2 + ?3 * free.key, job.id, CASE trail.solo WHEN 0 THEN ?4 ELSE ?5 END
FROM json_each(?6) AS free CROSS JOIN job ON job.id = free.value CROSS JOIN trail ON trail.id = free.value
