SELECT id FROM flow WHERE finished_at IS NOT NULL AND parent IS NULL AND state = ? AND finished_at <= ? LIMIT ?
