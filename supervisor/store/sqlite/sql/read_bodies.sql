SELECT job.id, lane.queue, job.payload
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value JOIN lane ON lane.id = job.lane
