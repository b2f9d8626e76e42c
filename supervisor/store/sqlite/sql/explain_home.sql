SELECT lane.id, ready.band, ready.pos, job.options, lane.vtime, lane.b, lane.paused OR lane.doom IS NOT NULL, lane.held
FROM lane CROSS JOIN ready ON ready.lane = lane.id CROSS JOIN job ON job.id = ready.id
WHERE lane.queue = ? AND lane.key = '' ORDER BY ready.band, ready.pos, ready.id LIMIT 1
