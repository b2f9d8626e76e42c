DELETE FROM uniq WHERE id = ? AND until IS NULL
