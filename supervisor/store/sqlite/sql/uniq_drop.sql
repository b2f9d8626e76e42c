DELETE FROM uniq WHERE id = ?1 AND until IS NULL AND NOT EXISTS (SELECT 1 FROM json_each(states) WHERE value = ?2)
