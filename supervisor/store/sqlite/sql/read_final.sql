SELECT outcome.id FROM outcome CROSS JOIN job ON job.id = outcome.id JOIN lane ON lane.id = job.lane
WHERE outcome.id < ?1 AND (?2 IS NULL OR lane.queue = ?2) AND outcome.state = ?3
ORDER BY outcome.id DESC LIMIT ?4
