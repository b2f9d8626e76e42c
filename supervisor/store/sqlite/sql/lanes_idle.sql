SELECT lane.id FROM lane CROSS JOIN queue ON queue.id = lane.queue
WHERE lane.jobs = 0 AND lane.key <> '' AND NOT lane.paused AND lane.vtime <= queue.clock LIMIT ?
