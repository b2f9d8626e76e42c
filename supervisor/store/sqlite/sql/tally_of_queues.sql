SELECT queue, state, jobs FROM tally
