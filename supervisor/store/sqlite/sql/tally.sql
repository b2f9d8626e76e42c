SELECT queue.name, tally.state, tally.jobs FROM tally JOIN queue ON queue.id = tally.queue
