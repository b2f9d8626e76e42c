SELECT lane.queue, tally.state, sum(tally.jobs) FROM tally JOIN lane ON lane.id = tally.lane GROUP BY 1, 2
