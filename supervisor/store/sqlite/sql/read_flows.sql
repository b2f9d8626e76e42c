SELECT id, name, state, parent, scope, open, steps, unfinished, dead, cancelled, skipped, created_at, finished_at, context
FROM flow WHERE parent IS NULL AND id < :before AND (:state IS NULL OR state = :state) AND (:scope IS NULL OR scope = :scope)
ORDER BY id DESC LIMIT :limit
