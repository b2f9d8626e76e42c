SELECT queue.id, queue.name, queue.paused, queue.clock, queue.ranking, queue.rerank_after, queue.rerank_until,
       lane.id, lane.queue, lane.key, lane.jobs, lane.vtime, lane.paused, lane.held, lane.doom, lane.a, lane.b, lane.c, lane.gate
FROM queue JOIN lane ON lane.queue = queue.id AND lane.key = ''
