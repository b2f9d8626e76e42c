INSERT INTO tally (lane, state, jobs) VALUES (?, ?, ?)
ON CONFLICT (lane, state) DO UPDATE SET jobs = jobs + excluded.jobs
