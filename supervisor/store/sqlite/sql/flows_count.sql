SELECT EXISTS (SELECT 1 FROM flow), (SELECT count(*) FROM flow WHERE finished_at IS NULL), EXISTS (SELECT 1 FROM ended_step)
