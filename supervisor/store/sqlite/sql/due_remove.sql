DELETE FROM scheduled WHERE due_at = ? AND id = ?
