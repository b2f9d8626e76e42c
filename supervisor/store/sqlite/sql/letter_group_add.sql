INSERT INTO letter_group (queue, fingerprint, jobs, type, message, first_at, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (queue, fingerprint) DO UPDATE SET jobs = jobs + excluded.jobs,
  first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)
