SELECT lane, state, jobs FROM tally
