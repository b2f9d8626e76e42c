SELECT ready.band, ready.pos, lane.vtime, lane.paused OR lane.doom IS NOT NULL, lane.held
FROM lane CROSS JOIN ready ON ready.lane = lane.id WHERE lane.queue = ? AND lane.key = ''
ORDER BY ready.band, ready.pos, ready.id LIMIT 1
